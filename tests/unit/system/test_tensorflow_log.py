import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sentiflow.system import tensorflow_log

CHATTER = [
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
    "E0000 00:00:1.2 7 util.cc:131] oneDNN supports DT_BOOL only on platforms with AVX-512. Falling back to the default",
    "I0000 00:00:1.2 7 port.cc:153] oneDNN custom operations are on. You may see slightly different numerical results",
    "2026-01-01 10:00:00.1: I external/local_xla/xla/tsl/cuda/cudart_stub.cc:31] Could not find cuda drivers on your machine",
    "I0000 00:00:1.2 7 cpu_feature_guard.cc:227] This TensorFlow binary is optimized to use available CPU instructions",
    "To enable the following instructions: AVX2 FMA, in other operations, rebuild TensorFlow with the right compiler flags.",
    "E0000 00:00:1.2 7 cuda_platform.cc:52] failed call to cuInit: INTERNAL: CUDA error: Failed call to cuInit: UNKNOWN",
    "W0000 00:00:1.2 7 op.cc:1] attribute use_unbounded_threadpool which is not in the op definition: Op<name=MapDataset>",
    "E0000 00:00:1.2 7 cuda_dnn.cc:8579] Unable to register cuDNN factory: Attempting to register factory for plugin cuDNN",
    "W0000 00:00:1.2 7 computation_placer.cc:177] computation placer already registered. Please check linkage",
]
OTHER = [
    "W0000 00:00:1.2 7 cpu_allocator_impl.cc:84] Allocation of 2147483648 exceeds 10% of free system memory.",
    "E0000 00:00:1.2 7 gpu.cc:3] Failed to allocate 4 GB: out of memory",
    "error: the model says: To enable the following instructions: read the manual",
    "UserWarning: the header is odd",
    "",
    "Gr\u00fc\u00dfe",
]


def open_descriptors():
    return sorted(int(entry.name) for entry in Path("/proc/self/fd").iterdir())


def run(body):
    """Completed process that runs this code."""
    text = f"import os, sys\nfrom sentiflow.system import tensorflow_log as quiet\n{body}"
    return subprocess.run([sys.executable, "-c", text], capture_output=True, timeout=60, check=False)


@pytest.mark.parametrize("line", CHATTER)
def test_start_up_messages_written_below_python_are_dropped(capfd, line):
    with tensorflow_log.chatter_dropped():
        os.write(2, f"{line}\n".encode())
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("line", OTHER)
def test_other_lines_written_below_python_are_unchanged(capfd, line):
    with tensorflow_log.chatter_dropped():
        os.write(2, f"{line}\n".encode())
    assert capfd.readouterr().err == f"{line}\n"


def test_lines_keep_their_order(capfd):
    with tensorflow_log.chatter_dropped():
        for number in range(1000):
            os.write(2, f"line {number}\n{CHATTER[number % len(CHATTER)]}\n".encode())
    assert capfd.readouterr().err.splitlines() == [f"line {number}" for number in range(1000)]


def test_a_line_written_in_parts_is_matched_as_a_whole(capfd):
    with tensorflow_log.chatter_dropped():
        for piece in (CHATTER[0][:20], CHATTER[0][20:], "\nWarning", ": no space", "\n"):
            os.write(2, piece.encode())
    assert capfd.readouterr().err == "Warning: no space\n"


def test_a_last_line_without_newline_is_kept(capfd):
    with tensorflow_log.chatter_dropped():
        os.write(2, b"core dumped")
    assert capfd.readouterr().err == "core dumped"


def test_bytes_that_are_not_text_are_unchanged(capfdbinary):
    with tensorflow_log.chatter_dropped():
        os.write(2, b"\xff\xfe\n\0\n")
    assert capfdbinary.readouterr().err == b"\xff\xfe\n\0\n"


def test_outside_the_block_nothing_is_dropped(capfd):
    os.write(2, f"{CHATTER[0]}\n".encode())
    with tensorflow_log.chatter_dropped():
        pass
    os.write(2, f"{CHATTER[1]}\n".encode())
    assert capfd.readouterr().err == f"{CHATTER[0]}\n{CHATTER[1]}\n"


@pytest.mark.parametrize("failure", [None, ZeroDivisionError, KeyboardInterrupt, SystemExit])
def test_standard_error_and_its_descriptor_are_restored(failure):
    stream, file, descriptors = sys.stderr, os.fstat(2), len(open_descriptors())
    with pytest.raises(failure) if failure else contextlib.nullcontext(), tensorflow_log.chatter_dropped():
        assert not os.path.samestat(os.fstat(2), file)
        if failure:
            raise failure
    assert sys.stderr is stream
    assert os.path.samestat(os.fstat(2), file)
    assert len(open_descriptors()) == descriptors


def test_blocks_can_be_nested(capfd):
    with tensorflow_log.chatter_dropped():
        with tensorflow_log.chatter_dropped():
            os.write(2, f"inner\n{CHATTER[0]}\n".encode())
        os.write(2, f"outer\n{CHATTER[0]}\n".encode())
    assert capfd.readouterr().err == "inner\nouter\n"


def test_pythons_own_output_bypasses_the_filter():
    ended = run(
        "with quiet.chatter_dropped():\n"
        f"    print({CHATTER[0]!r}, file=sys.stderr)\n"
        "    print('bar', end='\\r', file=sys.stderr, flush=True)\n"
        f"    os.write(2, {CHATTER[0].encode()!r} + b'\\n')\n"
    )
    assert ended.stderr.decode() == f"{CHATTER[0]}\nbar\r"


def test_python_still_sees_a_terminal_so_that_progress_bars_are_drawn():
    terminal, side_of_the_process = os.openpty()
    try:
        body = "with quiet.chatter_dropped():\n    os.write(1, b'%d %d' % (sys.stderr.isatty(), os.isatty(2)))\n"
        ended = subprocess.run(
            [sys.executable, "-c", f"import os, sys\nfrom sentiflow.system import tensorflow_log as quiet\n{body}"],
            stdout=subprocess.PIPE,
            stderr=side_of_the_process,
            timeout=60,
            check=True,
        )
    finally:
        os.close(side_of_the_process)
        os.close(terminal)
    assert ended.stdout == b"1 0"


def test_characters_that_cannot_be_encoded_are_escaped():
    ended = run("with quiet.chatter_dropped():\n    print('caf\\udce9', file=sys.stderr)\nprint('done')\n")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"done\n", b"caf\\udce9\n")


def test_standard_error_works_after_the_block():
    ended = run("with quiet.chatter_dropped():\n    pass\nprint('after', file=sys.stderr)\nos.write(2, b'below\\n')\n")
    assert (ended.returncode, ended.stderr) == (0, b"after\nbelow\n")


def test_a_process_without_standard_error_works():
    body = (
        "from sentiflow.system import tensorflow_log as quiet\nwith quiet.chatter_dropped():\n    print('in')\nprint('after')\n"
    )
    ended = subprocess.run(
        ["sh", "-c", 'exec "$0" -c "$1" 2>&-', sys.executable, body], stdout=subprocess.PIPE, timeout=60, check=False
    )
    assert (ended.returncode, ended.stdout) == (0, b"in\nafter\n")


def test_a_process_started_in_the_block_may_outlive_it():
    """It keeps the pipe open, and the block must not wait for it."""
    body = (
        "import subprocess\n"
        "with quiet.chatter_dropped():\n"
        "    child = subprocess.Popen(['sleep', '3'], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)\n"
        "    os.write(2, b'kept\\n')\n"
        "print(child.poll())\n"
        "child.kill()\n"
    )
    ended = run(body)
    assert (ended.stdout, ended.stderr) == (b"None\n", b"kept\n")


def test_importing_keras_shows_tensorflows_warnings_and_nothing_else():
    ended = subprocess.run(
        [sys.executable, "-c", "from sentiflow.models.tf import keras, layers, ops, tf; print(keras.backend.backend())"],
        env=os.environ | {"TF_ENABLE_ONEDNN_OPTS": "maybe"},  # TensorFlow warns about this value
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (0, "tensorflow\n")
    lines = ended.stderr.splitlines()
    assert lines
    assert [line for line in lines if "TF_ENABLE_ONEDNN_OPTS is not set to either" not in line] == []
