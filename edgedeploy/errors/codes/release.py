"""E730-E769: releases: bundles, signatures, keys."""

from __future__ import annotations

from edgedeploy.errors.codes import Explanation

CODES: dict[str, Explanation] = {
    "E731": Explanation(
        "Not a bundle of ours",
        "A bundle has one possible form for a given content, to the last byte; this file has "
        "another. It is damaged, cut off, or was written or repacked by something else. Nothing of "
        "it is used. Get it again from where it was published.",
    ),
    "E732": Explanation(
        "The signature of a bundle cannot be read",
        "The envelope with the signatures is damaged or of another kind, so that nobody vouches "
        "for the bundle. Get it again from where it was published.",
    ),
    "E733": Explanation(
        "Signing gave no signature of the key",
        "What was to sign the release returned something that the public key does not confirm; no "
        "bundle was written. Check that the command signs exactly the bytes that it is given, with "
        "Ed25519 (RFC 8032, not prehashed), and prints 64 raw bytes.",
    ),
    "E734": Explanation(
        "The manifest of a bundle cannot be used",
        "The manifest is signed, but is of another schema or is not in the canonical form: another "
        "version of edgedeploy made it, or something else did. Use the edgedeploy that made it.",
    ),
    "E735": Explanation(
        "A file of a bundle is missing, too many, or another",
        "The bundle does not hold exactly what its signed manifest lists; the first file that is "
        "wrong is named. Nothing of it is used. Get it again from where it was published.",
    ),
    "E736": Explanation(
        "No trusted key vouches for a bundle",
        "The bundle is signed, but by no key that was given or enrolled, or by one that was "
        "revoked; or the signature was not made over this manifest. Give the publisher's public "
        "key with --key, after you compared its id on another way.",
    ),
    "E737": Explanation(
        "A release has no version",
        "A release is named by the profile's `name:` and `version:`. This profile states no "
        "version; add one, in quotes.",
    ),
    "E750": Explanation(
        "A key file exists already",
        "A key is never overwritten: what was signed with the old one could not be told from what "
        "was not. Choose another file name, or rotate the key.",
    ),
    "E751": Explanation(
        "A key file cannot be used",
        "The file is not there or cannot be read; or it is a private key that others on this "
        "machine may read, and then anybody could have signed. Set its mode to 600.",
    ),
    "E752": Explanation(
        "A file holds no Ed25519 key",
        "Releases are signed with Ed25519 keys in PEM: PKCS #8 for the private part, RFC 8410 for "
        "the public one. This file holds something else, or a key with a passphrase.",
    ),
    "E756": Explanation(
        "A part of a release states no licence",
        "Who gets a release has to know under which licence each model and file may be used. Add "
        "`licence:` with an SPDX expression to the model, and `release: {files_licence: ...}` for "
        "what `files:` name. `LicenseRef-NAME` stands for a licence of your own; its text lies in "
        "`LICENSES/LicenseRef-NAME.txt`.",
    ),
    "E757": Explanation(
        "A licence of a release is not understood",
        "It is no SPDX expression of known ids; or it is one of your own (`LicenseRef-NAME`) and "
        "`release: {texts: ...}` names no text of it; or a text belongs to no part. Write ids of "
        "the SPDX list, joined by AND, OR and WITH.",
    ),
    "E758": Explanation(
        "A part of a release is under a denied licence",
        "The profile's `release: {deny: ...}` or `--deny` names a licence that this part cannot "
        "be used without; of `A OR B` one may be denied. Nothing was written.",
    ),
    "E759": Explanation(
        "An engine to be released was made by no GPU",
        "A device that only stands for a real one made the engine, to try the way; it cannot run "
        "anywhere. Build it on a device of the board, then release.",
    ),
}
