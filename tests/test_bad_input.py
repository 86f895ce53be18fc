# SPDX-License-Identifier: MIT
"""Bad input gets one line with file, place and reason, exit 1, and leaves nothing behind.

usage: test_bad_input.py LORAPACK
"""
import json
import os
import pathlib
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile

import tensors
from tensors import Tensor

Q, V = 'model.layers.0.q_proj', 'model.layers.0.v_proj'
PREFIX = 'base_model.model.'


def f32(*shape, value=0.5):
    n = 1
    for size in shape:
        n *= size
    return Tensor('F32', shape, struct.pack(f'<{n}f', *[value] * n))


class Pair:
    """A base (two shards, 4 x 3 layers) and a PEFT adapter of rank 2 that fits it, in a folder of their own."""

    def __init__(self, folder):
        self.base, self.adapter, self.out = folder / 'base', folder / 'adapter', folder / 'out'
        self.config = {'peft_type': 'LORA', 'r': 2, 'lora_alpha': 4, 'target_modules': ['q_proj', 'v_proj']}
        self.tensors = {}
        for module in (Q, V):
            self.tensors[f'{PREFIX}{module}.lora_A.weight'] = f32(2, 3)
            self.tensors[f'{PREFIX}{module}.lora_B.weight'] = f32(4, 2)
        self.shards = {'model-00001-of-00002.safetensors': {f'{Q}.weight': f32(4, 3)},
                       'model-00002-of-00002.safetensors': {f'{V}.weight': f32(4, 3), 'lm_head.weight': f32(5, 3)}}
        self.base_config = {'vocab_size': 5, 'tie_word_embeddings': False}
        self.weight_map = {name: shard for shard, held in self.shards.items() for name in held}
        self.after = [] # what to do to the files once they are written

    def write(self):
        self.base.mkdir()
        self.adapter.mkdir()
        for shard, held in self.shards.items():
            tensors.write_file(self.base / shard, held, {'format': 'pt'})
        index = {'metadata': {'total_size': 156}, 'weight_map': self.weight_map}
        (self.base / 'model.safetensors.index.json').write_text(json.dumps(index, indent=2))
        (self.base / 'config.json').write_text(json.dumps(self.base_config))
        (self.adapter / 'adapter_config.json').write_text(json.dumps(self.config))
        tensors.write_file(self.adapter / 'adapter_model.safetensors', self.tensors, {'format': 'pt'})
        for change in self.after:
            change()

    def key(self, suffix):
        return next(key for key in self.tensors if key.endswith(suffix))

    def truncate(self, path, size):
        self.after.append(lambda: os.truncate(path, size))

    def write_text(self, path, text):
        self.after.append(lambda: path.write_text(text))

    def remove(self, path):
        self.after.append(path.unlink)


def wrong_base_shape(p):
    p.shards['model-00001-of-00002.safetensors'][f'{Q}.weight'] = f32(4, 5)


def transposed_base(p):
    p.shards['model-00001-of-00002.safetensors'][f'{Q}.weight'] = f32(3, 4)


def missing_target(p):
    shard = p.shards['model-00001-of-00002.safetensors']
    shard['model.layers.0.renamed.weight'] = shard.pop(f'{Q}.weight')
    p.weight_map['model.layers.0.renamed.weight'] = p.weight_map.pop(f'{Q}.weight')


def extra_tensor(p):
    p.tensors[f'{PREFIX}{Q}.lora_C.weight'] = f32(2, 2)


def extra_bias(p):
    p.tensors[f'{PREFIX}{Q}.bias'] = f32(4)


def extra_magnitude(p):
    p.tensors[f'{PREFIX}{Q}.lora_magnitude_vector'] = f32(4)


def nan_alpha(p):
    p.config['lora_alpha'] = float('nan')


def infinite_alpha(p):
    p.write_text(p.adapter / 'adapter_config.json', '{"peft_type": "LORA", "r": 2, "lora_alpha": 1e400}')


def rank_zero(p):
    p.config['r'] = 0


def rank_mismatch(p):
    p.tensors[p.key('q_proj.lora_B.weight')] = f32(4, 3)


def rank_against_config(p):
    p.config['r'] = 3


def half_a_pair(p):
    del p.tensors[p.key('q_proj.lora_B.weight')]


def empty_adapter(p):
    p.tensors.clear()


def empty_tensor(p):
    p.tensors[p.key('q_proj.lora_A.weight')] = Tensor('F32', (2, 0), b'')


def nothing_matches(p):
    p.tensors = {key.replace('layers', 'blocks'): tensor for key, tensor in p.tensors.items()}


def truncated_shard(p):
    p.truncate(p.base / 'model-00002-of-00002.safetensors', 200)


def truncated_adapter(p):
    p.truncate(p.adapter / 'adapter_model.safetensors', 500)


def missing_shard(p):
    p.remove(p.base / 'model-00002-of-00002.safetensors')


def absolute_shard_name(p):
    p.weight_map['lm_head.weight'] = '/etc/passwd.safetensors'


def climbing_shard_name(p):
    p.weight_map['lm_head.weight'] = '../base/model-00002-of-00002.safetensors'


def wrong_shard(p):
    p.weight_map['lm_head.weight'] = 'model-00001-of-00002.safetensors'


def tensor_not_in_index(p):
    del p.weight_map['lm_head.weight']


def quantised_by_config(p):
    p.base_config['quantization_config'] = {'quant_method': 'gptq', 'bits': 4}


def quantised_by_dtype(p):
    p.shards['model-00001-of-00002.safetensors'][f'{Q}.weight'] = Tensor('I8', (4, 3), bytes(12))


def quantised_by_siblings(p):
    shard = p.shards['model-00001-of-00002.safetensors']
    shard[f'{Q}.weight_scale_inv'] = f32(1)
    p.weight_map[f'{Q}.weight_scale_inv'] = 'model-00001-of-00002.safetensors'


def lfs_pointer(p):
    p.write_text(p.adapter / 'adapter_model.safetensors',
                 'version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 499064\n')


def web_page(p):
    p.write_text(p.adapter / 'adapter_model.safetensors', '<!DOCTYPE html>\n<html><body>404</body></html>')


def pickled_adapter(p):
    p.after.append(lambda: (p.adapter / 'adapter_model.safetensors').rename(p.adapter / 'adapter_model.bin'))


def pickled_base(p):
    for name in (*p.shards, 'model.safetensors.index.json'):
        p.remove(p.base / name)
    p.write_text(p.base / 'pytorch_model.bin', 'PK')


def no_config(p):
    p.remove(p.adapter / 'adapter_config.json')


def broken_config(p):
    p.write_text(p.adapter / 'adapter_config.json', '{"peft_type": "LORA", "r": 2,')


def duplicate_key(p):
    p.write_text(p.adapter / 'adapter_config.json', '{"peft_type": "LORA", "r": 2, "lora_alpha": 4, "r": 3}')


def unknown_key(p):
    p.config['use_something_new'] = True


# change, file that the message is about, field or offset, words of the reason
CASES = [
    (wrong_base_shape, 'base', f'{Q}.weight', 'the base has [4, 5], the adapter needs [4, 3]'),
    (transposed_base, 'base', f'{Q}.weight', 'transposed it would fit'),
    (missing_target, 'base', f'{Q}.weight', 'the base has no such tensor'),
    (extra_tensor, 'adapter', 'lora_C', 'unknown kind of LoRA tensor'),
    (extra_bias, 'adapter', f'{Q}.bias', 'bias none'),
    (extra_magnitude, 'adapter', 'lora_magnitude_vector', 'DoRA'),
    (nan_alpha, 'adapter', ' 0x', 'NaN'),
    (infinite_alpha, 'adapter', 'lora_alpha', 'finite'),
    (rank_zero, 'adapter', 'r:', 'rank 0'),
    (rank_mismatch, 'adapter', Q, 'A has rank 2 and B has rank 3'),
    (rank_against_config, 'adapter', Q, 'the config gives rank 3, the tensors have 2'),
    (half_a_pair, 'adapter', 'lora_A', 'its counterpart lora_B is missing'),
    (empty_adapter, 'adapter', 'adapter', 'the adapter is empty'),
    (empty_tensor, 'adapter', 'lora_A', 'is empty'),
    (nothing_matches, 'base', 'blocks', 'the base has no such tensor'),
    (truncated_shard, 'model-00002-of-00002.safetensors', '0x', 'cut short'),
    (truncated_adapter, 'adapter', '0x', 'cut short'),
    (missing_shard, 'base', 'model-00002-of-00002.safetensors', 'model.safetensors.index.json'),
    (absolute_shard_name, 'model.safetensors.index.json', 'lm_head.weight', '/etc/passwd.safetensors'),
    (climbing_shard_name, 'model.safetensors.index.json', 'lm_head.weight', '..'),
    (wrong_shard, 'base', 'lm_head.weight', 'model-00001-of-00002.safetensors'),
    (tensor_not_in_index, 'base', 'lm_head.weight', 'index'),
    (quantised_by_config, 'base', 'proj.weight', 'quantised (gptq)'),
    (quantised_by_dtype, 'base', f'{Q}.weight', 'I8'),
    (quantised_by_siblings, 'base', f'{Q}.weight', 'quantised'),
    (lfs_pointer, 'adapter', '', 'Git-LFS'),
    (web_page, 'adapter', '', 'web page'),
    (pickled_adapter, 'adapter', '', 'pickle'),
    (pickled_base, 'base', '', 'pickle'),
    (no_config, 'adapter', '', 'adapter_config.json'),
    (broken_config, 'adapter', '0x', ''),
    (duplicate_key, 'adapter', 'r', 'twice'),
    (unknown_key, 'adapter', 'use_something_new', 'unknown key'),
]


def complaints(code, stderr, folder, expected):
    """What is wrong with how a refusal went."""
    last = (stderr.strip().splitlines() or [''])[-1]
    if code != 1:
        yield f'exit {code}, not 1'
    if not last.startswith('lorapack: '):
        yield 'the last line is not the error'
    for words in expected:
        if words not in last:
            yield f'the error does not say "{words}"'
    left = sorted(path.name for path in folder.iterdir() if path.name not in ('base', 'adapter'))
    if left:
        yield f'left behind: {left}'
    if code != 1 or any(True for words in expected if words not in last):
        yield f'it says: {last}'


def run(program, *arguments, **more):
    done = subprocess.run([program, *map(os.fspath, arguments)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, check=False, timeout=120, **more)
    return done.returncode, done.stderr


def check_case(program, change, expected, folder):
    """A pair changed by `change` is refused."""
    pair = Pair(folder)
    change(pair)
    pair.write()
    code, stderr = run(program, 'merge', '--base', pair.base, '--adapter', pair.adapter, '-o', pair.out)
    return list(complaints(code, stderr, folder, expected))


def limit_file_size():
    """Every file this process writes ends after 16 bytes, as after ulimit -f in a shell: going on would be its end by SIGXFSZ."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, 16))


def check_unwritable(program, folder):
    """Writing that fails half-way leaves nothing under the output's name."""
    pair = Pair(folder)
    pair.write()
    arguments = {'merge': ['merge', '--base', pair.base, '--adapter', pair.adapter, '-o', pair.out],
                 'pack': ['pack', pair.adapter, '-o', folder / 'out.lora'],
                 'unpack': ['unpack', pair.adapter, '-o', folder / 'out']}
    for command, line in arguments.items():
        code, stderr = run(program, *line, preexec_fn=limit_file_size)
        for text in complaints(code, stderr, folder, ['File too large']):
            yield f'{command}: {text}'


def may_mount(folder):
    """Whether a file system can be mounted there, seen by one program and its children alone."""
    return not os.geteuid() and shutil.which('unshare') and not run('unshare', '--mount', 'mount', '-t', 'tmpfs', 'none', folder)[0]


def check_full_disk(program, folder):
    """A disk that is really full; needs the right to mount one."""
    disk = folder / 'disk'
    disk.mkdir()
    pair = Pair(folder)
    pair.shards['model-00002-of-00002.safetensors']['lm_head.weight'] = f32(5, 20000)
    pair.write()
    script = f'mount -t tmpfs -o size=64k none {disk} && exec "$@"'
    line = ['unshare', '--mount', 'sh', '-c', script, 'sh', program, 'merge', '--base', pair.base, '--adapter', pair.adapter, '-o',
            disk / 'out']
    if not may_mount(disk):
        return
    code, stderr = run(*line)
    disk.rmdir()
    yield from complaints(code, stderr, folder, [f'{disk}/out: ', ' bytes are needed, ', 'No space left on device'])


def check_read_only(program, folder):
    """A file system that cannot be written to, which holds for root too."""
    disk = folder / 'disk'
    disk.mkdir()
    pair = Pair(folder)
    pair.write()
    if not may_mount(disk):
        return
    for output, line in (('out', ['merge', '--base', pair.base, '--adapter', pair.adapter]), ('out.lora', ['pack', pair.adapter])):
        script = f'mount -t tmpfs -o ro none {disk} && exec "$@"'
        code, stderr = run('unshare', '--mount', 'sh', '-c', script, 'sh', program, *line, '-o', disk / output)
        disk.rmdir()
        yield from complaints(code, stderr, folder, [f'{disk}/{output}: ', 'Read-only file system'])
        disk.mkdir()


def check_good(program, folder):
    """The pair that all cases start from merges."""
    pair = Pair(folder)
    pair.write()
    code, stderr = run(program, 'merge', '--base', pair.base, '--adapter', pair.adapter, '-o', pair.out)
    if code:
        yield stderr


def main():
    program = sys.argv[1]
    checks = {change.__name__: lambda folder, change=change, expected=expected: check_case(program, change, expected, folder)
              for change, *expected in CASES}
    for check in (check_good, check_unwritable, check_full_disk, check_read_only):
        checks[check.__name__] = lambda folder, check=check: list(check(program, folder))
    failed = 0
    for name, check in checks.items():
        with tempfile.TemporaryDirectory() as folder:
            found = check(pathlib.Path(folder))
        if found:
            failed += 1
            print(f'FAIL {name}: ' + '; '.join(found))
    print(f'{len(checks) - failed} passed, {failed} failed')
    sys.exit(1 if failed else 0)


main()
