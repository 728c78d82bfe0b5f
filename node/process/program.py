"""A Python program of this node that runs models or reads strangers' files: how it starts, and what it is given.

It gets few variables of the environment: a role has passwords of databases and keys of object stores in its own.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping

from node.process.limits import THREAD_VARIABLES

_SHARED = frozenset(
    {
        "PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TEMP", "TMP", "LD_LIBRARY_PATH",
        "LD_PRELOAD", "GLIBC_TUNABLES", "VIRTUAL_ENV", "CONDA_PREFIX", "XDG_CACHE_HOME", "MPLCONFIGDIR", "MPLBACKEND",
        "FONTCONFIG_FILE", "FONTCONFIG_PATH", "KERAS_BACKEND", "TOKENIZERS_PARALLELISM",
    }
)  # fmt: skip
_SHARED_PREFIXES = (
    "LC_", "PYTHON", "MALLOC_",
    "CUDA_", "CUDNN_", "CUBLAS_", "NVIDIA_", "NCCL_", "HIP_", "ROCR_", "ROCM_", "HSA_", "MIOPEN_",
    "OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "BLIS_", "NUMEXPR_", "NUMBA_", "ONEDNN_", "DNNL_", "ITK_", "SITK_",
    "TORCH", "PYTORCH_", "TRITON_", "TF_", "XLA_", "JAX_", "ORT_", "ONNX",
    "HF_", "HUGGINGFACE_", "TRANSFORMERS_", "MONAI_", "nnUNet_", "TOTALSEG_",
)  # fmt: skip
"""Of what numerical libraries, and libraries of models, read."""
_SECRET = re.compile("TOKEN|SECRET|PASSW|CREDENTIAL|KEY|AUTH", re.IGNORECASE)


def start_program(
    code: str, *arguments: int, descriptors: tuple[int, ...], output: int, threads: int
) -> subprocess.Popen[bytes]:
    """Start Python with ``code`` and ``arguments``; it imports what this process can, nothing from the current folder.

    ``descriptors``: the only ones that it inherits. ``output``: where all goes that it prints. ``threads``: of its
    numerical libraries. Raises ``OSError``.
    """
    path = os.pathsep.join(entry for entry in sys.path if entry)
    own = {"PYTHONPATH": path, "PYTHONSAFEPATH": "1", **dict.fromkeys(THREAD_VARIABLES, str(threads))}
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        pass_fds=descriptors,
        env=shared_variables(os.environ) | own,
    )


def shared_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that models and readers of files get: none that is named like a secret."""
    return {
        name: value
        for name, value in environment.items()
        if name in _SHARED or (name.startswith(_SHARED_PREFIXES) and not _SECRET.search(name))
    }
