# SPDX-License-Identifier: MIT
"""What a merge does with everything around the tensors: config, index, side files, links, existing outputs.

usage: test_merge_files.py LORAPACK
"""
import json
import os
import pathlib
import struct
import sys

import tensors
from lorapack import Complaint, Lorapack, merge, run_tests
from tensors import Tensor

PREFIX = 'base_model.model.'
Q = 'model.layers.0.q_proj'
EMBED = 'model.embed_tokens.weight'

VECTORS = pathlib.Path(__file__).resolve().parent.parent / 'spec/vectors'


def bf16(rows, cols, first=0x3f80):
    return Tensor('BF16', (rows, cols), struct.pack(f'<{rows * cols}H', *(first + i % 64 for i in range(rows * cols))))


def f32(rows, cols, value=0.25):
    return Tensor('F32', (rows, cols), struct.pack(f'<{rows * cols}f', *[value] * (rows * cols)))


def write_adapter(folder, held, **config):
    folder.mkdir()
    lora = {f'{PREFIX}{Q}.lora_A.weight': f32(2, 3), f'{PREFIX}{Q}.lora_B.weight': f32(4, 2)}
    tensors.write_file(folder / 'adapter_model.safetensors', {**lora, **held}, {'format': 'pt'})
    (folder / 'adapter_config.json').write_text(json.dumps({'peft_type': 'LORA', 'r': 2, 'lora_alpha': 4, **config}))
    return folder


CONFIG = '{\n  "vocab_size": 5,\n  "tie_word_embeddings": true,\n  "rope": 1e4\n}\n'


def write_base(folder, config=CONFIG):
    """Two shards with a tied embedding."""
    folder.mkdir()
    shards = {'model-00001-of-00002.safetensors': {EMBED: bf16(5, 3)}, 'model-00002-of-00002.safetensors': {f'{Q}.weight': bf16(4, 3)}}
    for name, held in shards.items():
        tensors.write_file(folder / name, held, {'format': 'pt', 'note': 'kept'})
    index = {'metadata': {'total_size': 54}, 'weight_map': {name: shard for shard, held in shards.items() for name in held}}
    (folder / 'model.safetensors.index.json').write_text(json.dumps(index, indent=2) + '\n')
    (folder / 'config.json').write_text(config)
    (folder / 'tokenizer.json').write_text('{}')
    return folder


def expect(value, wanted, what):
    if value != wanted:
        raise Complaint(f'{what}: {value!r}, not {wanted!r}')


def test_side_files_are_kept(lorapack, folder):
    base = write_base(folder / 'base')
    (base / 'pytorch_model.bin').write_text('weights')
    (base / 'onnx').mkdir()
    lorapack.must(*merge(base, [write_adapter(folder / 'a', {})], folder / 'out'))
    for name in ('config.json', 'tokenizer.json', 'model.safetensors.index.json', 'model-00001-of-00002.safetensors'):
        expect((folder / 'out' / name).read_bytes(), (base / name).read_bytes(), name)
    expect(sorted(p.name for p in (folder / 'out').iterdir()),
           ['config.json', 'model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors', 'model.safetensors.index.json',
            'tokenizer.json'], 'files')
    size = struct.unpack('<Q', (base / 'model-00002-of-00002.safetensors').read_bytes()[:8])[0]
    for root in (base, folder / 'out'): # the header stays to the byte
        expect((root / 'model-00002-of-00002.safetensors').read_bytes()[:8 + size],
               (base / 'model-00002-of-00002.safetensors').read_bytes()[:8 + size], 'header')


def test_a_head_comes_untied(lorapack, folder):
    base, head = write_base(folder / 'base'), bf16(5, 3, 0x4000)
    adapter = write_adapter(folder / 'a', {f'{PREFIX}lm_head.weight': head}, modules_to_save=['lm_head'])
    lorapack.must(*merge(base, [adapter], folder / 'out'))
    merged = tensors.read_model(folder / 'out')
    expect(merged['lm_head.weight'], head, 'lm_head.weight')
    expect(merged[EMBED], tensors.read_model(base)[EMBED], EMBED)
    expect((folder / 'out/config.json').read_text(), CONFIG.replace('true', 'false'), 'config.json')
    index = json.loads((folder / 'out/model.safetensors.index.json').read_text())
    expect(index['weight_map']['lm_head.weight'], 'model-00002-of-00002.safetensors', 'weight_map')
    expect(index['metadata']['total_size'], 84, 'total_size')
    expect(tensors.read_file(folder / 'out/model-00002-of-00002.safetensors').metadata, {'format': 'pt', 'note': 'kept'}, 'metadata')


def test_a_saved_head_that_is_the_embedding_stays_tied(lorapack, folder):
    base = write_base(folder / 'base')
    adapter = write_adapter(folder / 'a', {f'{PREFIX}lm_head.weight': bf16(5, 3)}, modules_to_save=['lm_head'])
    lorapack.must(*merge(base, [adapter], folder / 'out'))
    expect('lm_head.weight' in tensors.read_model(folder / 'out'), False, 'lm_head.weight there')
    expect((folder / 'out/config.json').read_text(), CONFIG, 'config.json')


BOTH = {'modules_to_save': ['embed_tokens', 'lm_head']}


def test_a_saved_embedding_without_its_tied_head(lorapack, folder):
    """PEFT trains a copy of the embedding; the head keeps the old one, which a tied base cannot store."""
    base = write_base(folder / 'base')
    adapter = write_adapter(folder / 'a', {f'{PREFIX}{EMBED}': bf16(5, 3, 0x4000)}, modules_to_save=['embed_tokens'])
    code, _, message = lorapack.run(*merge(base, [adapter], folder / 'out'))
    expect((code, 'with the head as it was' in message), (1, True), message)
    same = write_adapter(folder / 'b', {f'{PREFIX}{EMBED}': bf16(5, 3)}, modules_to_save=['embed_tokens'])
    lorapack.must(*merge(base, [same], folder / 'out'))


def test_a_grown_vocabulary(lorapack, folder):
    base, grown = write_base(folder / 'base'), bf16(7, 3, 0x4000)
    adapter = write_adapter(folder / 'a', {f'{PREFIX}{EMBED}': grown, f'{PREFIX}lm_head.weight': grown}, **BOTH)
    lorapack.must(*merge(base, [adapter], folder / 'out'))
    expect(tensors.read_model(folder / 'out')[EMBED], grown, EMBED)
    expect((folder / 'out/config.json').read_text(), CONFIG.replace('5', '7', 1), 'config.json')
    index = json.loads((folder / 'out/model.safetensors.index.json').read_text())
    expect(index['metadata']['total_size'], 66, 'total_size')


def test_a_vocabulary_in_text_config(lorapack, folder):
    config = '{"text_config": {"vocab_size": 5, "tie_word_embeddings": true}, "vision_config": {"vocab_size": 5}}'
    base = write_base(folder / 'base', config)
    adapter = write_adapter(folder / 'a', {f'{PREFIX}{EMBED}': bf16(7, 3), f'{PREFIX}lm_head.weight': bf16(7, 3)}, **BOTH)
    lorapack.must(*merge(base, [adapter], folder / 'out'))
    expect((folder / 'out/config.json').read_text(), config.replace('5', '7', 1), 'config.json')


def test_both_copies_of_a_key_change(lorapack, folder):
    config = '{"vocab_size": 5, "text_config": {"vocab_size": 5, "hidden_size": 3}, "tie_word_embeddings": true}'
    base = write_base(folder / 'base', config)
    adapter = write_adapter(folder / 'a', {f'{PREFIX}{EMBED}': bf16(7, 3), f'{PREFIX}lm_head.weight': bf16(7, 3)}, **BOTH)
    lorapack.must(*merge(base, [adapter], folder / 'out'))
    expect((folder / 'out/config.json').read_text(), config.replace('5', '7'), 'config.json')


def test_another_dtype(lorapack, folder):
    base = write_base(folder / 'base', '{"torch_dtype": "bfloat16", "text_config": {"dtype": "bfloat16"}}')
    adapter = write_adapter(folder / 'adapter', {})
    out = folder / 'out'
    lorapack.must(*merge(base, [adapter], out), '--dtype', 'f32')
    expect((out / 'config.json').read_text(), '{"torch_dtype": "float32", "text_config": {"dtype": "float32"}}', 'config.json')
    index = json.loads((out / 'model.safetensors.index.json').read_text())
    expect(index['metadata']['total_size'], 108, 'total_size')
    expect(set(index['weight_map']), {EMBED, f'{Q}.weight'}, 'weight_map')
    held = tensors.read_file(out / 'model-00001-of-00002.safetensors').tensors[EMBED]
    wanted = b''.join(b'\0\0' + struct.pack('<H', 0x3f80 + i) for i in range(15))
    expect((held.dtype, held.data), ('F32', wanted), 'an untouched tensor')
    code, _, _ = lorapack.run(*merge(base, [adapter], folder / 'not'), '--dtype', 'f32', '--json')
    expect(code, 2, '--dtype with --json')


def test_what_a_single_file_cannot_say(lorapack, folder):
    base = folder / 'base.safetensors'
    tensors.write_file(base, {f'{Q}.weight': bf16(4, 3), EMBED: bf16(5, 3)})
    adapter = write_adapter(folder / 'a', {f'{PREFIX}lm_head.weight': bf16(5, 3, 0x4000)}, modules_to_save=['lm_head'])
    code, _, message = lorapack.run(*merge(base, [adapter], folder / 'out.safetensors'))
    expect((code, 'comes untied' in message, (folder / 'out.safetensors').exists()), (1, True, False), message)


def test_a_single_file(lorapack, folder):
    base = folder / 'base.safetensors'
    tensors.write_file(base, {f'{Q}.weight': bf16(4, 3), 'norm': bf16(1, 3)}, {'format': 'pt'})
    lorapack.must(*merge(base, [write_adapter(folder / 'a', {})], folder / 'out.safetensors'))
    expect(tensors.read_model(folder / 'out.safetensors')['norm'], bf16(1, 3), 'norm')


def test_a_cache_of_links(lorapack, folder):
    """A Hugging Face snapshot is a directory of links into a folder of blobs."""
    blobs, snapshot = write_base(folder / 'blobs'), folder / 'snapshot'
    snapshot.mkdir()
    for i, path in enumerate(sorted(blobs.iterdir())):
        blob = path.rename(blobs / f'blob{i}')
        (snapshot / path.name).symlink_to(os.path.relpath(blob, snapshot))
    lorapack.must(*merge(snapshot, [write_adapter(folder / 'a', {})], folder / 'out'))
    expect(any(path.is_symlink() for path in (folder / 'out').iterdir()), False, 'links in the output')
    expect((folder / 'out/config.json').read_text(), CONFIG, 'config.json')


def test_what_exists_is_kept_unless_forced(lorapack, folder):
    base, adapter, out = write_base(folder / 'base'), write_adapter(folder / 'a', {}), folder / 'out'
    out.mkdir()
    (out / 'precious').write_text('data')
    code, _, message = lorapack.run(*merge(base, [adapter], out))
    expect((code, 'exists' in message), (1, True), 'exit and message')
    expect((out / 'precious').read_text(), 'data', 'what was there')
    lorapack.must(*merge(base, [adapter], out), '--force')
    expect((out / 'precious').exists(), False, 'what was there')
    (out / 'deeper').mkdir() # a directory that a model is not: a mistyped path must not delete a tree
    code, _, message = lorapack.run(*merge(base, [adapter], out), '--force')
    expect(code, 1, 'exit')
    expect((out / 'deeper').is_dir(), True, 'the tree')
    expect(sorted(p.name for p in folder.iterdir()), ['a', 'base', 'out'], 'files')


def test_a_tokenizer_that_differs_is_named(lorapack, folder):
    base, adapter = write_base(folder / 'base'), write_adapter(folder / 'a', {})
    (adapter / 'tokenizer.json').write_text('{}') # the base's
    _, _, message = lorapack.run(*merge(base, [adapter], folder / 'out'))
    expect(message, '', 'talk')
    (adapter / 'tokenizer.json').write_text('{"added": 1}')
    (adapter / 'added_tokens.json').write_text('{}')
    code, _, message = lorapack.run(*merge(base, [adapter], folder / 'out2'))
    expect((code, '(tokenizer.json, added_tokens.json)' in message), (0, True), message)
    expect((folder / 'out2/tokenizer.json').read_text(), '{}', 'tokenizer.json')


def test_threads_do_not_matter(lorapack, folder):
    base, adapter = write_base(folder / 'base'), write_adapter(folder / 'a', {})
    for n in (1, 2, 7):
        lorapack.must(*merge(base, [adapter], folder / f'out{n}'), '--threads', str(n))
        expect(tensors.read_model(folder / f'out{n}'), tensors.read_model(folder / 'out1'), f'{n} threads')


def test_mistakes_are_said_before_the_work(lorapack, folder):
    base, adapter, packed = write_base(folder / 'base'), write_adapter(folder / 'a', {}), folder / 'a.lora'
    lorapack.must('pack', adapter, '-o', packed)
    shard = base / 'model-00001-of-00002.safetensors'
    for arguments, wanted, words in (
            ([*merge(base, [adapter], folder / 'out'), '--receipt', folder / 'none/r.json'], 1, 'its directory is not there'),
            (merge(base, [adapter], folder / 'out.safetensors'), 2, 'the base is a directory'),
            (merge(base, [f'{packed}#a=0,5'], folder / 'out'), 2, 'a weight must be a number'),
            (merge(packed, [packed], folder / 'out'), 1, 'a .lora file, which holds adapters'),
            (['pack', shard, '-o', folder / 'out'], 1, 'holds no LoRA tensors')):
        code, _, message = lorapack.run(*arguments)
        expect((code, words in message, (folder / 'out').exists()), (wanted, True, False), message)
    lorapack.must(*merge(base, [adapter], folder / 'out'), '--receipt', folder / 'out/receipt.json') # within the output it may be


def test_a_directory_of_adapters_names_them(lorapack, folder):
    parent = folder / 'run'
    parent.mkdir()
    for name in ('checkpoint-100', 'checkpoint-200'):
        write_adapter(parent / name, {})
    code, _, message = lorapack.run('inspect', parent)
    expect((code, 'checkpoint-100, checkpoint-200' in message), (1, True), message)


def test_identity_of_the_base(lorapack, folder):
    base, adapter, packed = write_base(folder / 'base'), write_adapter(folder / 'a', {}), folder / 'a.lora'
    lorapack.must('pack', adapter, '-o', packed, '--base', base)
    lorapack.must('verify', packed, '--base', base)
    lorapack.must(*merge(base, [packed], folder / 'out'))
    shard = base / 'model-00002-of-00002.safetensors'
    shard.write_bytes(shard.read_bytes()[:-1] + b'\x3e') # another model of the same shape
    code, _, message = lorapack.run(*merge(base, [packed], folder / 'out2'))
    expect((code, Q in message), (1, True), 'exit and message')
    lorapack.must(*merge(base, [packed], folder / 'out2'), '--any-base')


def test_a_damaged_slot_is_recovered_and_said(lorapack, folder):
    """spec 3: the other slot is used, and the file is reported as recovered; verification does not pass it."""
    packed = folder / 'a.lora'
    lorapack.must('pack', write_adapter(folder / 'a', {}), '-o', packed)
    data = bytearray(packed.read_bytes())
    data[8192] = 1
    packed.write_bytes(data)
    shown = json.loads(lorapack.must('inspect', packed, '--json'))
    expect(shown['container']['recovered'], True, 'recovered')
    code, _, message = lorapack.run('verify', packed)
    expect((code, 'root[1]' in message), (1, True), f'verify says {message}')


def test_an_id_that_is_not_the_adapters_is_refused(lorapack, folder):
    """spec 6.1: whoever shows or copies an adapter's id has computed it."""
    vector = VECTORS / 'bad-adapter-id.lora'
    for arguments in (['inspect', vector], ['pack', vector, '-o', folder / 'out']):
        code, _, message = lorapack.run(*arguments)
        expect((code, 'adapter_id' in message), (1, True), f'{arguments[0]} says {message}')


def test_a_flipped_bit_in_tensor_data_stops_all_that_read_it(lorapack, folder):
    base, packed = write_base(folder / 'base'), folder / 'a.lora'
    lorapack.must('pack', write_adapter(folder / 'a', {}), '-o', packed)
    data = bytearray(packed.read_bytes())
    data[-1] ^= 1 # the last byte of the last tensor
    packed.write_bytes(data)
    for arguments in (merge(base, [packed], folder / 'out'), ['unpack', packed, '-o', folder / 'out'],
                      ['pack', packed, '-o', folder / 'out'], ['verify', packed]):
        code, _, message = lorapack.run(*arguments)
        expect((code, 'sha256' in message, (folder / 'out').exists()), (1, True, False), f'{arguments[0]} says {message}')


if __name__ == '__main__':
    sys.exit(run_tests(globals(), lambda folder: (Lorapack(sys.argv[1]), folder)))
