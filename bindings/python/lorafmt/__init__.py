# SPDX-License-Identifier: MIT
"""
LoRA adapters, exact to the last bit: liblorafmt for Python, by ctypes. Needs no compiler; numpy is used when it is asked for.

    open(path) -> Source         adapters of a .lora file, a PEFT directory or a safetensors file
    open_memory(data) -> Source  the same of bytes
    Model.open(path) -> Model    a base model on disk; Description: one that is somewhere else
    bind(base, stack) -> View    which tensor every update goes to; View.evaluate() computes rows of what comes out
    Runtime(base, places)        live weights in buffers of yours, switched from one stack to another by swap()

Everything is closed by close(), by `with`, or when nobody refers to it any more. What was made from it before stays good: a view
holds its adapters, memory holds the file that it lies in. What fails raises LorafmtError.
"""
from ._library import load
from .adapters import Adapter, ContainerInfo, Site, Source, Tensor, VerifyResult, open, open_memory
from .bases import Description, Model, TensorInfo
from .errors import LibraryError, LorafmtError, Problem
from .runtimes import LiveSet, Place, Runtime, SwapResult
from .views import BoundSite, Counts, View, ViewTensor, bind

__version__ = '0.1.0'
__all__ = ['Adapter', 'BoundSite', 'ContainerInfo', 'Counts', 'Description', 'LibraryError', 'LiveSet', 'LorafmtError', 'Model',
           'Place', 'Problem', 'Runtime', 'Site', 'Source', 'SwapResult', 'Tensor', 'TensorInfo', 'VerifyResult', 'View',
           'ViewTensor', 'bind', 'load', 'open', 'open_memory']
