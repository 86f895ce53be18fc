#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Keys and signatures: held against a second Ed25519 in Python, and against openssl where there is one.

usage: test_sign.py LORAPACK DEMO_MODEL
"""
import base64
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import ed25519
import tensors
from lorapack import Complaint, Lorapack, names
from project import expect, expect_in, flip

PRIVATE_DER = bytes.fromhex('302e020100300506032b657004220420') # RFC 8410, 7
PUBLIC_DER = bytes.fromhex('302a300506032b6570032100') # RFC 8410, 4

# RFC 8032, 7.1: private key, public key, message, signature.
VECTORS = [
    ('9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60',
     'd75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a', '',
     'e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155'
     '5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b'),
    ('4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb',
     '3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c', '72',
     '92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da'
     '085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00'),
    ('c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7',
     'fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025', 'af82',
     '6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac'
     '18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a'),
]


def pem(label, data):
    return f'-----BEGIN {label}-----\n{base64.b64encode(data).decode()}\n-----END {label}-----\n'


def message_of(id_):
    """spec 4.10"""
    return b'lora adapter sig v1\0' + bytes.fromhex(id_)


class Desk:
    """A folder with adapters to sign, and the keys of two people."""

    def __init__(self, lorapack, demo, folder):
        self.lorapack, self.demo, self.folder = lorapack, demo, folder
        folder.mkdir()
        shutil.copytree(demo / 'adapters', folder / 'adapters')
        self.legal = folder / 'adapters/legal'
        for i, name in enumerate(['alice', 'bob']):
            self.write_keys(name, bytes.fromhex(VECTORS[i][0]), bytes.fromhex(VECTORS[i][1]))

    def write_keys(self, name, seed, public):
        self.key(name).write_text(pem('PRIVATE KEY', PRIVATE_DER + seed))
        self.key(name).chmod(0o600)
        self.public(name).write_text(pem('PUBLIC KEY', PUBLIC_DER + public))

    def key(self, name):
        return self.folder / f'{name}.pem'

    def public(self, name):
        return self.folder / f'{name}.pub.pem'

    def must(self, *arguments):
        return self.lorapack.must(*arguments)

    def says(self, *arguments):
        return json.loads(self.must(*arguments, '--json'))

    def refused(self, part, *arguments, code=1):
        found, output, message = self.lorapack.run(*arguments)
        expect((found, output), (code, ''), f'exit of {arguments[0]}, which says {message!r}')
        expect_in(part, message, arguments[0])

    def sign(self, what, name, out='sig'):
        """Detached; the path of the signature."""
        path = self.folder / out
        self.must('sign', what, '--key', self.key(name), '--detached', '-o', path, '--force')
        return path

    def verify(self, what, *keys, signature=None):
        """Arguments that verify."""
        more = ['--signature', signature] if signature else []
        return ['verify', what, *more, *(argument for key in keys for argument in ('--key', self.public(key)))]


def check_reference(_desk):
    """The Ed25519 that all else here is held against."""
    for seed, key, message, signature in (map(bytes.fromhex, vector) for vector in VECTORS):
        expect(ed25519.public_key(seed), key, 'public key')
        expect(ed25519.sign(seed, message), signature, 'signature')
        expect(ed25519.verify(key, message, signature), True, 'verifying')
        expect(ed25519.verify(key, message + b'x', signature), False, 'verifying another message')


def check_keygen(desk):
    """Two files that are what they must be, and no more is said than may be."""
    name = desk.folder / 'new'
    os.umask(0o022)
    said = desk.must('keygen', '-o', name)
    private, public = desk.key('new'), desk.public('new')
    expect((private.stat().st_mode & 0o7777, public.stat().st_mode & 0o7777), (0o600, 0o644), 'modes')
    der = base64.b64decode(private.read_text().splitlines()[1])
    seed, key = der[len(PRIVATE_DER):], ed25519.public_key(der[len(PRIVATE_DER):])
    expect((private.read_text(), public.read_text()), (pem('PRIVATE KEY', PRIVATE_DER + seed), pem('PUBLIC KEY', PUBLIC_DER + key)), 'files')
    expect_in(hashlib.sha256(key).hexdigest(), said, 'fingerprint')
    if seed.hex() in said or base64.b64encode(seed)[:20].decode() in said:
        raise Complaint('the private key is printed')
    before = private.read_text(), public.read_text()
    desk.refused('File exists', 'keygen', '-o', name)
    private.unlink()
    desk.refused('File exists', 'keygen', '-o', name)
    expect((names(desk.folder), public.read_text()), (['adapters', 'alice.pem', 'alice.pub.pem', 'bob.pem', 'bob.pub.pem', 'new.pub.pem'], before[1]),
           'what is left when there is a file already')
    found = desk.says('keygen', '-o', desk.folder / 'other')
    expect((found['private_key'], found['public_key']), (str(desk.key('other')), str(desk.public('other'))), 'paths')


def check_detached(desk):
    """Of a PEFT directory, a .lora and a file of several: the signature of the RFC's algorithm, of the id that inspect prints."""
    both, seed = desk.folder / 'both.lora', bytes.fromhex(VECTORS[0][0])
    desk.must('pack', desk.legal, desk.folder / 'adapters/tang', '-o', both)
    for what in desk.legal, f'{both}#tang':
        id_ = desk.says('inspect', what)['adapters'][0]['id']
        signature = desk.sign(what, 'alice')
        expect(signature.read_bytes(), ed25519.sign(seed, message_of(id_)), 'signature')
        found = desk.says(*desk.verify(what, 'bob', 'alice', signature=signature))['signed_by']
        expect(found, [{'name': what.name if what == desk.legal else 'tang', 'id': id_, 'key': str(desk.public('alice')),
                        'fingerprint': hashlib.sha256(bytes.fromhex(VECTORS[0][1])).hexdigest()}], 'who signed')
        desk.refused('no signature of the key that is trusted is genuine', *desk.verify(what, 'bob', signature=signature))
    desk.refused('no signature', *desk.verify(f'{both}#legal', 'alice', signature=signature))
    desk.refused('no signature', *desk.verify(both, 'alice', signature=signature))
    desk.refused('is not signed', *desk.verify(desk.legal, 'alice'))
    desk.refused('must be 64', *desk.verify(desk.legal, 'alice', signature=desk.public('alice')))


def check_in_the_file(desk):
    """Several signers, each once; what stays of it, and of whom it says so."""
    both, other = desk.folder / 'both.lora', desk.folder / 'other.lora'
    desk.must('pack', desk.legal, desk.folder / 'adapters/tang', '-o', both)
    id_ = desk.says('inspect', f'{both}#legal')['adapters'][0]['id']
    fingerprints = [hashlib.sha256(bytes.fromhex(vector[1])).hexdigest() for vector in VECTORS]
    desk.refused('choose one by #NAME', 'sign', both, '--key', desk.key('alice'))
    for name, already in [('bob', False), ('alice', False), ('alice', True), ('bob', True)]:
        before = both.read_bytes()
        said = desk.says('sign', f'{both}#legal', '--key', desk.key(name))
        expect((said['adapter'], said['already_signed'], said['signature']), ({'name': 'legal', 'id': id_}, already, None), 'sign')
        expect(both.read_bytes() == before, already, f'the file is as it was, {name}')
    found = {signature['public_key']: signature for signature in desk.says('inspect', f'{both}#legal')['adapters'][0]['signatures']}
    expect(sorted((key, found[key]['algorithm'], found[key]['fingerprint']) for key in found),
           sorted((VECTORS[i][1], 1, fingerprints[i]) for i in (0, 1)), 'signatures')
    shown = desk.must('inspect', f'{both}#legal')
    expect_in('which was not checked', shown, 'inspect')
    expect_in(fingerprints[1], shown, 'inspect')
    desk.must(*desk.verify(f'{both}#legal', 'alice'))
    desk.must(*desk.verify(f'{both}#legal', 'bob'))
    desk.refused('tang: is not signed', *desk.verify(both, 'alice'))
    desk.write_keys('eve', *map(bytes.fromhex, VECTORS[2][:2]))
    desk.refused(f'is signed by key {fingerprints[1]}, must be by the key that is trusted', *desk.verify(f'{both}#legal', 'eve'))
    desk.must('sign', f'{both}#tang', '--key', desk.key('alice'))
    desk.must(*desk.verify(both, 'alice'))
    desk.must('pack', f'{both}#legal', '-o', other, '--codec', 'split', '--align', '4096', '--name', 'renamed')
    desk.must(*desk.verify(other, 'bob'))
    desk.must('pack', both, '-o', other, '--force', '--dtype', 'f32')
    desk.refused('is not signed', *desk.verify(other, 'alice'))
    desk.refused('only a .lora file', 'sign', desk.legal, '--key', desk.key('alice'))
    desk.refused('need --detached', 'sign', both, '--key', desk.key('alice'), '-o', desk.folder / 's', code=2)


def check_openssl(desk):
    """It signs and we verify, we sign and it verifies; its keys are read, ours are by it."""
    def openssl(*arguments):
        return subprocess.run(['openssl', *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False, timeout=60).returncode

    message, theirs = desk.folder / 'message', desk.folder / 'theirs.sig'
    id_ = desk.says('inspect', desk.legal)['adapters'][0]['id']
    message.write_bytes(message_of(id_))
    expect(openssl('genpkey', '-algorithm', 'ed25519', '-out', desk.key('carol')), 0, 'openssl genpkey')
    desk.key('carol').chmod(0o600)
    expect(openssl('pkey', '-in', desk.key('carol'), '-pubout', '-out', desk.public('carol')), 0, 'openssl pkey')
    desk.must('keygen', '-o', desk.folder / 'dave')
    for name in 'carol', 'dave':
        ours = desk.sign(desk.legal, name)
        check = ['pkeyutl', '-verify', '-pubin', '-inkey', desk.public(name), '-rawin', '-in', message, '-sigfile']
        expect(openssl(*check, ours), 0, f'openssl verifies, {name}')
        expect(openssl('pkeyutl', '-sign', '-inkey', desk.key(name), '-rawin', '-in', message, '-out', theirs), 0, f'openssl signs, {name}')
        expect(theirs.read_bytes(), ours.read_bytes(), 'the signature')
        desk.must(*desk.verify(desk.legal, name, signature=theirs))
        flip(theirs)
        expect(openssl(*check, theirs), 1, 'openssl, one bit changed')
        desk.refused('no signature', *desk.verify(desk.legal, name, signature=theirs))


def check_openssl_refused(desk):
    """Keys of other kinds are refused by their names."""
    def make(*arguments):
        subprocess.run(['openssl', *map(str, arguments)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True, timeout=60)
        private.chmod(0o600)

    private, public = desk.folder / 'k.pem', desk.folder / 'k.pub.pem'
    for algorithm, part in [(['rsa', '-pkeyopt', 'rsa_keygen_bits:2048'], 'RSA'), (['ec', '-pkeyopt', 'ec_paramgen_curve:P-256'], 'ECDSA'),
                            (['x25519'], 'X25519'), (['ed448'], 'Ed448'), (['x448'], 'X448')]:
        make('genpkey', '-algorithm', *algorithm, '-out', private)
        make('pkey', '-in', private, '-pubout', '-out', public)
        desk.refused(part, 'sign', desk.legal, '--key', private, '--detached', '-o', desk.folder / 's')
        desk.refused(part, 'verify', desk.legal, '--key', public)
    make('pkey', '-in', desk.key('alice'), '-aes256', '-passout', 'pass:x', '-out', private)
    desk.refused('is encrypted', 'sign', desk.legal, '--key', private, '--detached', '-o', desk.folder / 's')


def check_documented(desk):
    """The lines of docs/signing.md for openssl do what they say."""
    text = (pathlib.Path(__file__).resolve().parent.parent / 'docs/signing.md').read_text(encoding='utf-8')
    lines = re.search('```bash\n(.*?)```', text, re.S)[1]
    (desk.folder / 'lorapack').symlink_to(desk.lorapack.program)
    desk.must('pack', desk.legal, '-o', desk.folder / 'legal.lora')
    done = subprocess.run(['bash', '-e', '-c', lines], cwd=desk.folder, env=os.environ | {'PATH': f'{desk.folder}:{os.environ["PATH"]}'},
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=60)
    expect(done.returncode, 0, f'exit of what docs/signing.md says, which prints {done.stdout!r}')
    desk.must(*desk.verify(desk.folder / 'legal.lora', 'alice', signature=desk.folder / 'legal.sig'))


def check_keys(desk):
    """A private key that others could read, and what is none."""
    out = desk.folder / 's'
    sign = ['sign', desk.legal, '--key', desk.key('alice'), '--detached', '-o', out]
    for mode in 0o640, 0o604, 0o620, 0o666:
        desk.key('alice').chmod(mode)
        desk.refused(f"must be yours alone: chmod 600 '{desk.key('alice')}'", *sign)
    desk.key('alice').chmod(0o400)
    desk.must(*sign)
    desk.refused('File exists', *sign)
    desk.public('alice').chmod(0o600)
    desk.refused('is a public key', 'sign', desk.legal, '--key', desk.public('alice'), '--detached', '-o', out, '--force')
    desk.refused('is a private key', 'verify', desk.legal, '--key', desk.key('alice'))
    desk.refused('is missing', 'sign', desk.legal, code=2)
    desk.refused('needs -o', 'sign', desk.legal, '--key', desk.key('alice'), '--detached', code=2)
    desk.refused('needs --key', 'verify', desk.legal, '--signature', out, code=2)


def check_weak_key(desk):
    """A key for which anybody can sign: R = 1 and S = 0 are right for the reference, and for nobody here."""
    weak = (1).to_bytes(32, 'little')
    signature = desk.folder / 'forged'
    signature.write_bytes(weak + bytes(32))
    id_ = desk.says('inspect', desk.legal)['adapters'][0]['id']
    expect(ed25519.verify(weak, message_of(id_), signature.read_bytes()), True, 'the forgery')
    desk.public('weak').write_text(pem('PUBLIC KEY', PUBLIC_DER + weak))
    desk.refused('anybody can sign', *desk.verify(desk.legal, 'weak', signature=signature))


def check_repacking(desk):
    """Codec, alignment, name, neighbours and back to PEFT: signed by the same signature."""
    signature = desk.sign(desk.legal, 'alice')
    packed, other = desk.folder / 'a.lora', desk.folder / 'b.lora'
    desk.must('pack', desk.legal, '-o', packed)
    for more in [[], ['--codec', 'split'], ['--align', '4096'], ['--align', '65536', '--codec', 'split'], ['--name', 'other']]:
        desk.must('pack', packed, '-o', other, '--force', *more)
        desk.must(*desk.verify(other, 'alice', signature=signature))
    desk.must('pack', packed, desk.folder / 'adapters/tang', '-o', other, '--force')
    desk.must(*desk.verify(f'{other}#legal', 'alice', signature=signature))
    desk.must('unpack', f'{other}#legal', '-o', desk.folder / 'back')
    desk.must(*desk.verify(desk.folder / 'back', 'alice', signature=signature))


def check_changes(desk):
    """One bit of any tensor, a number of the config, a base: nobody signed that."""
    signature = desk.sign(desk.legal, 'alice')
    weights, config = desk.legal / 'adapter_model.safetensors', desk.legal / 'adapter_config.json'
    held, text = tensors.read_model(desk.legal), config.read_text()
    for name, tensor in held.items():
        data = bytearray(tensor.data)
        data[len(data) // 2] ^= 1
        tensors.write_file(weights, held | {name: tensor._replace(data=bytes(data))})
        desk.refused('no signature', *desk.verify(desk.legal, 'alice', signature=signature))
    tensors.write_file(weights, held)
    desk.must(*desk.verify(desk.legal, 'alice', signature=signature))
    said = json.loads(text)
    for change in {'lora_alpha': said['lora_alpha'] + 1}, {'use_rslora': True}, {'base_model_name_or_path': 'somebody/else'}:
        config.write_text(json.dumps(said | change))
        desk.refused('no signature', *desk.verify(desk.legal, 'alice', signature=signature))
    config.write_text(text)
    changed = desk.folder / 'changed.lora'
    for more in ['--dtype', 'f32'], ['--base', desk.demo / 'base'], ['--dtype', 'f16']:
        desk.must('pack', desk.legal, '-o', changed, '--force', *more)
        desk.refused('no signature', *desk.verify(changed, 'alice', signature=signature))


CHECKS = {'the reference': check_reference, 'keygen': check_keygen, 'detached': check_detached, 'in the file': check_in_the_file, 'key files': check_keys,
          'weak key': check_weak_key, 'packing again': check_repacking, 'changes': check_changes}
OPENSSL = {'openssl': check_openssl, 'keys of openssl': check_openssl_refused, 'docs': check_documented}


def main():
    lorapack, demo = Lorapack(os.path.abspath(sys.argv[1])), pathlib.Path(sys.argv[2])
    checks, n_failed = dict(CHECKS), 0
    if shutil.which('openssl'):
        checks |= OPENSSL
    else:
        print(f'skipped, since there is no openssl: {", ".join(OPENSSL)}')
    with tempfile.TemporaryDirectory() as folder:
        for i, (name, check) in enumerate(checks.items()):
            try:
                check(Desk(lorapack, demo, pathlib.Path(folder) / str(i)))
            except Complaint as complaint:
                print(f'FAIL {name}: {complaint}')
                n_failed += 1
    print(f'{len(checks) - n_failed} passed, {n_failed} failed')
    return 1 if n_failed else 0


if __name__ == '__main__':
    sys.exit(main())
