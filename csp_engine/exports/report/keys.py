"""Keys that reports are signed with: Ed25519, as OpenSSL or OpenSSH write them.

The package ``cryptography`` is imported only here and only when somebody signs, or checks a
signature.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from csp_engine.errors import InputError, MissingModelError
from csp_engine.files import given_bytes

MAKE = "openssl genpkey -algorithm ed25519 -out key.pem"


def sign(message: bytes, key: Path) -> tuple[str, str]:
    """Sign with a private key.

    Args:
        message: what to sign.
        key: a file in PEM or in the form of OpenSSH, without a passphrase.

    Returns:
        The public key and the signature, in hexadecimal digits.

    Raises:
        InputError: if the file holds no such key.
        MissingModelError: if the package that signs is not installed.
    """
    _, serialization = _library()
    content = _read(key)
    load: Any = serialization.load_pem_private_key
    if b"OPENSSH PRIVATE KEY" in content:
        load = serialization.load_ssh_private_key
    try:
        private = load(content, password=None)
    except TypeError:
        raise InputError(
            f"The key in {key} has a passphrase; sign with a key without one, such as from: {MAKE}"
        ) from None
    except Exception as error:  # the library has many kinds of its own
        raise _no_key(key, "private", error) from None
    if not hasattr(private, "sign") or "Ed25519" not in type(private).__name__:
        raise _no_key(key, "private", type(private).__name__)
    return _raw(private.public_key()), private.sign(message).hex()


def public_key(source: str) -> str:
    """A public key in hexadecimal digits, from them or from a file (PEM, or OpenSSH's .pub).

    Raises:
        InputError: if it is none.
        MissingModelError: if the package that signs is not installed.
    """
    if len(source) == 64 and all(letter in "0123456789abcdef" for letter in source):
        return source
    _, serialization = _library()
    content = _read(Path(source))
    load: Any = serialization.load_pem_public_key
    if content.startswith(b"ssh-"):
        load = serialization.load_ssh_public_key
    try:
        found = load(content)
    except Exception as error:
        raise _no_key(source, "public", error) from None
    if "Ed25519" not in type(found).__name__:
        raise _no_key(source, "public", type(found).__name__)
    return _raw(found)


def is_signed(message: bytes, key: str, signature: str) -> bool:
    """Whether a signature is that of a key, both in hexadecimal digits.

    Raises:
        MissingModelError: if the package that signs is not installed.
    """
    ed25519, _ = _library()
    try:
        ed25519.Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)).verify(
            bytes.fromhex(signature), message
        )
    except Exception:
        return False
    return True


def _raw(public: Any) -> str:
    _, serialization = _library()
    raw = serialization.Encoding.Raw
    return public.public_bytes(raw, serialization.PublicFormat.Raw).hex()


def _read(path: Path) -> bytes:
    try:
        return given_bytes(path)
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or error
        raise InputError(f"The key {path} cannot be read: {said}.") from None


def _no_key(source: object, kind: str, found: object) -> InputError:
    said = found if isinstance(found, str) else type(found).__name__
    return InputError(
        f"{source} holds no {kind} Ed25519 key ({said}); make one with: {MAKE}"
        + ("" if kind == "private" else " and 'openssl pkey -in key.pem -pubout -out key.pub'")
    )


def _library() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise MissingModelError(
            "Signatures need the package cryptography; install it with: pip install "
            "'csp-neuron-browser[sign]'"
        ) from None
    return ed25519, serialization
