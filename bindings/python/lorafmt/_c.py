# SPDX-License-Identifier: MIT
"""The public headers in terms of ctypes: numbers, structs and prototypes. Nothing here has an opinion.

Names are those of C without their prefix. tests/test_python.py holds sizes, offsets and numbers against a C compiler.
"""
import ctypes
from ctypes import CFUNCTYPE, POINTER, Structure
from ctypes import c_bool, c_char, c_char_p, c_double, c_int, c_size_t, c_uint8, c_uint16, c_uint32, c_uint64, c_void_p

c_uint = ctypes.c_uint

RELEASE = '0.1'  # of the library that has these structs: major and minor
MAX_DIMS = 8
MAX_SETS = 2
N_LIMITS = 17
NO_OFFSET = 2**64 - 1
NO_TENSOR = ctypes.c_size_t(-1).value

# Enumerations, by number. The library itself spells dtypes, kinds, roles, scalings and statuses.
HINTS = ('NONE', 'BASE', 'ALPHA', 'EXPERTS', 'ORIENTATION', 'MAP', 'ANY_BASE', 'REPLACE', 'ROLLBACK', 'LOCK')
ORIENTATIONS = ('out-in', 'in-out', 'shape')
SOURCE_KINDS = (None, 'lora', 'peft', 'safetensors')
TIED = ('unknown', 'yes', 'no')
MATCHES = ('none', 'exact', 'map', 'bridge', 'tied', 'new')
EFFECTS = ('nothing', 'low_rank', 'replaced', 'new', 'rows', 'additive')
CPUS = ('best', 'scalar', 'avx2', 'avx512', 'neon')

OK = 0
CANCELLED = 10

SITE_ROW_RANGE = 1 << 0
SITE_COL_RANGE = 1 << 1
SITE_BASE_SHA256 = 1 << 2
SITE_DOUBLED = 1 << 3

Digest = c_uint8 * 32
Shape = c_uint64 * MAX_DIMS


class Error(Structure):
    _fields_ = [('status', c_int), ('hint', c_int), ('os_error', c_int), ('offset', c_uint64), ('file', c_char * 512),
                ('field', c_char * 256), ('text', c_char * 1024)]


class Tensor(Structure):
    _fields_ = [('dtype', c_int), ('n_dims', c_uint32), ('shape', Shape), ('size', c_uint64), ('data', c_void_p)]


class Factor(Structure):
    _fields_ = [('role', c_uint16), ('tensor', Tensor)]


class Site(Structure):
    _fields_ = [('target', c_char_p), ('kind', c_uint16), ('orientation', c_uint8), ('scaling', c_uint8), ('rank', c_uint32),
                ('flags', c_uint32), ('alpha', c_double), ('scale', c_double), ('row_begin', c_uint64), ('row_end', c_uint64),
                ('col_begin', c_uint64), ('col_end', c_uint64), ('base_sha256', Digest), ('n_factors', c_uint32),
                ('factors', POINTER(Factor))]


class Metadata(Structure):
    _fields_ = [('key', c_char_p), ('value', c_char_p), ('flags', c_uint32)]


class Signature(Structure):
    _fields_ = [('algorithm', c_uint32), ('public_key', Digest), ('signature', c_uint8 * 64)]


class Adapter(Structure):
    _fields_ = [('name', c_char_p), ('base_name', c_char_p), ('base_revision', c_char_p), ('has_base_structure', c_bool),
                ('base_structure', Digest), ('has_id', c_bool), ('id', Digest), ('n_sites', c_size_t), ('sites', POINTER(Site)),
                ('n_metadata', c_size_t), ('metadata', POINTER(Metadata)), ('n_signatures', c_size_t),
                ('signatures', POINTER(Signature))]


class BaseTensor(Structure):
    _fields_ = [('name', c_char_p), ('dtype', c_int), ('n_dims', c_uint32), ('shape', Shape), ('size', c_uint64)]


Read = CFUNCTYPE(c_int, c_void_p, c_size_t, c_uint64, c_size_t, c_void_p, POINTER(Error))


class Base(Structure):
    # read is a Read, given as its address so that the struct does not keep what it calls alive
    _fields_ = [('struct_size', c_size_t), ('n_tensors', c_size_t), ('tensors', POINTER(BaseTensor)), ('read', c_void_p),
                ('ctx', c_void_p), ('tied', c_int), ('vocab_size', c_uint64), ('quantization', c_char_p)]


class Limits(Structure):
    _fields_ = [('struct_size', c_size_t), ('at_most', c_uint64 * N_LIMITS)]


class SourceOptions(Structure):
    _fields_ = [('struct_size', c_size_t), ('has_alpha', c_bool), ('alpha', c_double), ('use_rslora', c_bool),
                ('base', POINTER(Base)), ('has_orientation', c_bool), ('orientation', c_int), ('n_threads', c_uint),
                ('adapter', c_char_p), ('defer_digests', c_bool), ('in_memory', c_bool), ('policy', c_void_p),
                ('limits', POINTER(Limits)), ('paranoid', c_bool)]


class Memory(Structure):
    _fields_ = [('bytes', c_void_p), ('size', c_uint64), ('config', c_char_p), ('config_size', c_size_t), ('name', c_char_p)]


class ContainerInfo(Structure):
    _fields_ = [('version_major', c_uint), ('version_minor', c_uint), ('generation', c_uint64), ('file_end', c_uint64),
                ('index_size', c_uint64), ('align', c_uint32), ('n_tensors', c_size_t), ('n_signatures', c_size_t),
                ('n_ignored_sections', c_size_t), ('saved', c_uint64), ('recovered', c_bool), ('index_sha256', Digest)]


class VerifyResult(Structure):
    _fields_ = [('n_adapters', c_size_t), ('n_sites', c_size_t), ('n_tensors', c_size_t), ('n_bytes', c_uint64),
                ('n_nonfinite', c_uint64), ('recovered', c_bool)]


class StackEntry(Structure):
    _fields_ = [('adapter', c_void_p), ('weight', c_double)]


class Rename(Structure):
    _fields_ = [('from', c_char_p), ('to', c_char_p)]


Report = CFUNCTYPE(None, c_void_p, c_char_p, c_char_p, c_char_p)


class EntryOptions(Structure):
    _fields_ = [('renames', POINTER(Rename)), ('n_renames', c_size_t), ('weights', POINTER(c_double))]


class BindOptions(Structure):
    _fields_ = [('struct_size', c_size_t), ('renames', POINTER(Rename)), ('n_renames', c_size_t),
                ('entries', POINTER(EntryOptions)), ('allow_unmatched', c_bool), ('any_base', c_bool), ('check_only', c_bool),
                ('has_orientation', c_bool), ('orientation', c_int), ('cpu', c_int), ('report', Report), ('report_ctx', c_void_p)]


class BoundSite(Structure):
    _fields_ = [('entry', c_size_t), ('site', c_void_p), ('weight', c_double), ('match', c_int), ('effect', c_int), ('tensor', c_size_t)]


class ViewTensor(Structure):
    _fields_ = [('name', c_char_p), ('dtype', c_int), ('n_dims', c_uint32), ('shape', Shape), ('size', c_uint64),
                ('n_rows', c_uint64), ('row_size', c_uint64), ('touched', c_bool), ('reads_base', c_bool),
                ('needs_prepare', c_bool)]


class Counts(Structure):
    """How many elements of computed tensors came out as NaN or infinite; evaluating adds to them."""
    _fields_ = [('n_nan', c_uint64), ('n_inf', c_uint64)]

    def __repr__(self):
        return f'Counts(n_nan={self.n_nan}, n_inf={self.n_inf})'


class Rows(Structure):
    _fields_ = [('src', c_void_p), ('src_stride', c_size_t), ('src_dtype', c_int), ('dst', c_void_p), ('dst_stride', c_size_t),
                ('dst_dtype', c_int), ('col', c_size_t), ('n_cols', c_size_t)]


class Place(Structure):
    _fields_ = [('row', c_uint64), ('n_rows', c_uint64), ('col', c_uint64), ('n_cols', c_uint64), ('pristine', c_void_p),
                ('pristine_stride', c_size_t), ('live', c_void_p * MAX_SETS), ('live_stride', c_size_t), ('live_dtype', c_int)]


class RuntimeOptions(Structure):
    _fields_ = [('struct_size', c_size_t), ('n_sets', c_uint), ('is_loaded', c_bool), ('load_by_swap', c_bool),
                ('n_threads', c_uint), ('executor', c_void_p), ('executor_ctx', c_void_p)]


class SwapResult(Structure):
    _fields_ = [('n_sites', c_size_t), ('n_bound', c_size_t), ('n_computed', c_size_t), ('n_restored', c_size_t),
                ('n_bytes', c_uint64), ('counts', Counts)]


GoOn = CFUNCTYPE(c_bool, c_void_p)


class SwapOptions(Structure):
    _fields_ = [('struct_size', c_size_t), ('bind', POINTER(BindOptions)), ('go_on', GoOn), ('go_on_ctx', c_void_p),
                ('prepare', c_void_p), ('prepare_ctx', c_void_p)]


# Every struct that is mirrored here, by its name in C without the prefix.
STRUCTS = {
    'error': Error, 'tensor': Tensor, 'factor': Factor, 'site': Site, 'metadata': Metadata, 'adapter': Adapter,
    'base_tensor': BaseTensor, 'base': Base, 'limits': Limits, 'source_options': SourceOptions, 'memory': Memory, 'container_info': ContainerInfo,
    'verify_result': VerifyResult, 'stack_entry': StackEntry, 'rename': Rename, 'bind_options': BindOptions,
    'bound_site': BoundSite, 'view_tensor': ViewTensor, 'counts': Counts, 'rows': Rows, 'place': Place,
    'runtime_options': RuntimeOptions, 'swap_result': SwapResult, 'swap_options': SwapOptions,
}

_error = POINTER(Error)

# What a function returns and takes, without its prefix. Handles are addresses.
PROTOTYPES = {
    'status_name': (c_char_p, [c_int]),
    'error_format': (c_size_t, [_error, c_char_p, c_size_t]),
    'dtype_name': (c_char_p, [c_int]),
    'dtype_bits': (c_uint, [c_int]),
    'dtype_from_name': (c_int, [c_char_p]),
    'kind_name': (c_char_p, [c_uint]),
    'role_name': (c_char_p, [c_uint]),
    'orientation_name': (c_char_p, [c_uint]),
    'scaling_name': (c_char_p, [c_uint]),

    'limit_name': (c_char_p, [c_int]),

    'source_open': (c_int, [c_char_p, POINTER(SourceOptions), POINTER(c_void_p), _error]),
    'source_open_memory': (c_int, [POINTER(Memory), POINTER(SourceOptions), POINTER(c_void_p), _error]),
    'source_free': (None, [c_void_p]),
    'source_get_kind': (c_int, [c_void_p]),
    'source_n_adapters': (c_size_t, [c_void_p]),
    'source_adapter': (POINTER(Adapter), [c_void_p, c_size_t]),
    'source_n_notes': (c_size_t, [c_void_p]),
    'source_note': (c_char_p, [c_void_p, c_size_t]),
    'source_container': (c_bool, [c_void_p, POINTER(ContainerInfo)]),
    'source_choose': (c_int, [c_void_p, c_char_p, POINTER(c_void_p), _error]),
    'verify': (c_int, [c_void_p, POINTER(VerifyResult), _error]),
    'adapter_id': (None, [c_void_p, Digest]),
    'site_norm': (c_int, [c_void_p, POINTER(c_double), _error]),

    'model_open': (c_int, [c_char_p, POINTER(c_void_p), _error]),
    'model_free': (None, [c_void_p]),
    'model_base': (POINTER(Base), [c_void_p]),
    'model_map': (c_int, [c_void_p, _error]),
    'model_data': (c_void_p, [c_void_p, c_size_t]),
    'base_structure': (c_int, [POINTER(Base), Digest, _error]),

    'bind': (c_int, [POINTER(Base), POINTER(StackEntry), c_size_t, POINTER(BindOptions), POINTER(c_void_p), _error]),
    'view_free': (None, [c_void_p]),
    'view_n_tensors': (c_size_t, [c_void_p]),
    'view_get_tensor': (POINTER(ViewTensor), [c_void_p, c_size_t]),
    'view_n_sites': (c_size_t, [c_void_p]),
    'view_get_site': (POINTER(BoundSite), [c_void_p, c_size_t]),
    'view_bridge': (c_char_p, [c_void_p, c_size_t]),
    'view_unties': (c_bool, [c_void_p]),
    'view_vocab_size': (c_uint64, [c_void_p]),
    'view_prepare': (c_int, [c_void_p, c_size_t, _error]),
    'view_evaluate_as': (c_int, [c_void_p, c_size_t, c_uint64, c_uint64, POINTER(Rows), POINTER(Counts), _error]),

    'runtime_new': (c_int, [POINTER(Base), POINTER(Place), POINTER(RuntimeOptions), POINTER(c_void_p), _error]),
    'runtime_free': (None, [c_void_p]),
    'runtime_swap': (c_int, [c_void_p, POINTER(StackEntry), c_size_t, POINTER(SwapOptions), POINTER(SwapResult),
                             POINTER(c_void_p), _error]),
    'runtime_read_begin': (c_uint, [c_void_p]),
    'runtime_read_end': (None, [c_void_p, c_uint]),
    'runtime_generation': (c_uint64, [c_void_p]),
    'runtime_digest': (c_int, [c_void_p, POINTER(c_uint8), POINTER(c_uint8), _error]),
}
