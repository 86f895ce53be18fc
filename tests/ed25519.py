# SPDX-License-Identifier: MIT
"""Ed25519 in plain Python, from RFC 8032, to hold signatures against: slow, and no secret is safe with it."""
import hashlib

P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P
ORDER = 2**252 + 27742317777372353535851937790883648493


def add(a, b):
    """Points are (x, y, z, t) with x/z, y/z on the curve and x*y = z*t."""
    m, n = (a[1] - a[0]) * (b[1] - b[0]), (a[1] + a[0]) * (b[1] + b[0])
    c, d = 2 * a[3] * b[3] * D, 2 * a[2] * b[2]
    e, f, g, h = n - m, d - c, d + c, n + m
    return e * f % P, g * h % P, f * g % P, e * h % P


def times(n, point):
    """n * point."""
    sum_ = (0, 1, 1, 0)
    while n:
        if n & 1:
            sum_ = add(sum_, point)
        point, n = add(point, point), n >> 1
    return sum_


def decode(data):
    """The point of 32 bytes, or None."""
    y = int.from_bytes(data, 'little')
    sign, y = y >> 255, y & (1 << 255) - 1
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * pow(2, (P - 1) // 4, P) % P
    if y >= P or x * x % P != square or (x == 0 and sign):
        return None
    x = P - x if x & 1 != sign else x
    return x, y, 1, x * y % P


def encode(point):
    """32 bytes."""
    inverse = pow(point[2], -1, P)
    x, y = point[0] * inverse % P, point[1] * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, 'little')


BASE = decode((4 * pow(5, -1, P) % P).to_bytes(32, 'little'))


def hashed(*parts):
    """SHA-512 as a number."""
    return int.from_bytes(hashlib.sha512(b''.join(parts)).digest(), 'little')


def expand(seed):
    """The secret number of a private key, and what else comes of it."""
    digest = hashlib.sha512(seed).digest()
    return int.from_bytes(digest[:32], 'little') & (1 << 254) - 8 | 1 << 254, digest[32:]


def public_key(seed):
    return encode(times(expand(seed)[0], BASE))


def sign(seed, message):
    secret, prefix = expand(seed)
    r = hashed(prefix, message) % ORDER
    head, key = encode(times(r, BASE)), public_key(seed)
    s = (r + hashed(head, key, message) * secret) % ORDER
    return head + s.to_bytes(32, 'little')


def verify(key, message, signature):
    """Is it genuine?"""
    a, r, s = decode(key), decode(signature[:32]), int.from_bytes(signature[32:], 'little')
    if a is None or r is None or s >= ORDER:
        return False
    h = hashed(signature[:32], key, message) % ORDER
    return encode(times(s, BASE)) == encode(add(r, times(h, a)))
