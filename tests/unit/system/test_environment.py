import json
import platform
from importlib import metadata

import pytest

from sentiflow.system import environment

ARM = """\
processor	: 0
BogoMIPS	: 243.75
Features	: fp asimd evtstrm aes crc32 asimdhp sve bf16 cpuid
CPU implementer	: 0x41
CPU architecture: 8
CPU variant	: 0x1
CPU part	: 0xd40
CPU revision	: 1

processor	: 1
CPU part	: 0xd41
"""
X86 = """\
vendor_id	: AuthenticAMD
cpu family	: 25
model		: 17
model name	: AMD EPYC
stepping	: 1
microcode	: 0x1000065
cpu MHz		: 2596.150
flags		: fpu sse2 sse4_2 fma avx2 avx svm avx512f avx512_vnni amx_bf16 f16c aes smep
"""


def test_environment_is_repeatable_plain_data():
    found = environment.describe(gpus=["/device:GPU:0"], threads=2)
    assert found == environment.describe(gpus=["/device:GPU:0"], threads=2)
    assert json.loads(json.dumps(found)) == found
    assert found["gpus"] == ["/device:GPU:0"]
    assert found["threads"] == 2


def test_environment_has_processor_cores_and_installed_versions():
    found = environment.describe(gpus=[], threads=1)
    assert found["processor"].strip()
    assert found["cores"] >= 1
    assert found["python"] == platform.python_version()
    assert found["libraries"]["tensorflow"] == metadata.version("tensorflow")


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        (
            X86,
            {
                "processor": "AMD EPYC",
                "processor_model": "vendor_id AuthenticAMD, cpu family 25, model 17, stepping 1",
                "instruction_sets": ["amx_bf16", "avx", "avx2", "avx512_vnni", "avx512f", "f16c", "fma", "sse4_2"],
            },
        ),
        (
            ARM,
            {
                "processor_model": "CPU implementer 0x41, CPU variant 0x1, CPU part 0xd40, CPU revision 1",
                "instruction_sets": ["asimd", "asimdhp", "bf16", "sve"],
            },
        ),
    ],
)
def test_processors_are_distinguished_by_model_and_instruction_sets(tmp_path, cpuinfo, expected):
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    found = environment._processor(tmp_path / "cpuinfo")
    assert found | expected == found


def test_an_unknown_processor_has_empty_fields(tmp_path):
    found = environment._processor(tmp_path / "cpuinfo")
    assert found["processor"]
    assert (found["processor_model"], found["instruction_sets"]) == ("", [])
    assert environment._caches(tmp_path / "cache") == []


def test_caches_have_level_type_and_size(tmp_path):
    for index, parts in enumerate((("1", "Data", "32K"), ("2", "Unified", "1024K"))):
        (tmp_path / f"index{index}").mkdir()
        for part, value in zip(("level", "type", "size"), parts, strict=True):
            (tmp_path / f"index{index}" / part).write_text(f"{value}\n")
    assert environment._caches(tmp_path) == ["1 Data 32K", "2 Unified 1024K"]
    (tmp_path / "index1/size").unlink()
    assert environment._caches(tmp_path) == []


@pytest.mark.skipif(not environment.CPUINFO.exists(), reason="this system has no /proc/cpuinfo")
def test_model_and_instruction_sets_of_this_processor_are_found():
    found = environment.describe(gpus=[], threads=1)
    assert found["processor_model"]
    assert found["instruction_sets"] == sorted(set(found["instruction_sets"])) != []


def test_the_record_has_equal_environments_once_in_any_order():
    here, there = environment.describe(gpus=[], threads=1), environment.describe(gpus=["a GPU"], threads=1)
    kept = environment.record({"nb_svm": here, "lstm": there, "gru": here})
    assert kept == [
        {"architectures": ["gru", "nb_svm"], "environment": here},
        {"architectures": ["lstm"], "environment": there},
    ]
    assert kept == environment.record({"lstm": there, "gru": here, "nb_svm": here})
