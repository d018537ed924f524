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
        "A release is named by the profile's `name:` and `version:`, which become the names of "
        "files. This profile states no version, or one that cannot be such a name. Write one in "
        "quotes: letters, digits and `._+~-`.",
    ),
    "E738": Explanation(
        "A newer release was taken already",
        "Every release has a counter that grows, and what was taken is remembered by the name and "
        "the key. This release is older than the newest: somebody may be offering an old one whose "
        "faults are known. Get the newest; to go back on purpose, give --allow-downgrade, after "
        "which the newest is remembered all the same.",
    ),
    "E739": Explanation(
        "Two releases have one counter",
        "A release of this name with the same counter was taken before, and it was another. One of "
        "them was made without knowledge of the other, or with a stolen key. Ask the publisher "
        "which is right; a release with a higher counter settles it.",
    ),
    "E740": Explanation(
        "The memory of taken releases cannot be believed",
        "The file that remembers the newest release of every name is damaged, no regular file, or "
        "may be written by others, so that nobody knows what was taken before. Bring it back from "
        "a backup. To begin again, remove it: then an older release can be taken once.",
    ),
    "E741": Explanation(
        "The memory of taken releases cannot be read or written",
        "A release that cannot be remembered is not taken, because an older one could follow. Make "
        "the folder of the file writable for you alone, or name another file with --state.",
    ),
    "E742": Explanation(
        "There is something where a bundle shall be extracted",
        "A bundle is extracted into a folder of its own, which appears whole or not at all; "
        "nothing is ever written into one that holds something. Name a folder that does not exist.",
    ),
    "E743": Explanation(
        "The trust file cannot be believed",
        "The file that says whose releases are believed is damaged, contradicts itself, or may be "
        "written by others than its owner, who could then have enrolled anybody. Bring it back "
        "from a backup; or enrol the publishers' keys again, after you compared their ids.",
    ),
    "E744": Explanation(
        "The command that signs failed",
        "`--sign-command` names a program with arguments, run without a shell. It could not be "
        "started, ended with another status than 0, or took longer than 300 seconds; nothing was "
        "signed. Its standard input is a file with exactly the bytes to sign; its standard output "
        "is the signature, 64 raw bytes.",
    ),
    "E745": Explanation(
        "A statement about a key is not taken",
        "A statement hands over from one key to the next, or revokes a key. It is taken when a key "
        "of the trust file signed it that was not revoked; a key hands over once, and revokes "
        "itself or a key before it. The message says what does not hold. Somebody else than the "
        "publisher may have made it; ask the publisher, on another way than it came.",
    ),
    "E746": Explanation(
        "A revoked key is all that vouches for a release",
        "The bundle is signed, but by no key that is believed, and by one that the trust file "
        "says was revoked: whoever has that key now may have made the release. Get one that a "
        "successor signed.",
    ),
    "E747": Explanation(
        "The trust file cannot be changed like that",
        "A key is enrolled once, under its publisher's name; a revoked one never comes back. Keys "
        "are named by their id, at least eight digits of its beginning, or the publisher where "
        "there is one key of that name. The message says what does not hold.",
    ),
    "E748": Explanation(
        "The file of releases cannot be read",
        "`edgedeploy.releases` beside the profile says which counter every release got. It is "
        "damaged, or holds what cannot be: counters grow, and a version is there once. Restore it "
        "from version control; after a merge keep the entries of both sides.",
    ),
    "E749": Explanation(
        "A counter or a version was given before",
        "A version is released once: devices refuse two releases of one counter. This version was "
        "released with other content, or with another counter, or the counter that was asked for "
        "is not above the last. `SOURCE_DATE_EPOCH` and the version of edgedeploy count as "
        "content. Raise `version:`. An entry of `edgedeploy.releases` may be taken out only if "
        "nobody ever got that release.",
    ),
    "E750": Explanation(
        "A key file exists already",
        "A key is never overwritten: what was signed with the old one could not be told from what "
        "was not. Choose another file name, or rotate the key. Nor does a statement about keys "
        "replace anything but a statement.",
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
    "E753": Explanation(
        "Nobody is believed",
        "No public key was given with --key, and there is no trust file, so that nobody can vouch "
        "for a release. Enrol the publisher's key with `edgedeploy keys enrol KEY.pub --name "
        "PUBLISHER`, after you compared its id on another way; or give it with --key.",
    ),
    "E754": Explanation(
        "A device that trusts keys cannot check a release",
        "The application's depot on the device holds a trust file, so that a version becomes "
        "active only after the device checked its signature. It has no Python 3.6 for that, and "
        "no native runner that can. Put one there with `edgedeploy devices provision --upgrade`, "
        "or give it a Python.",
    ),
    "E755": Explanation(
        "A device takes signed releases alone",
        "The application's depot on the device holds a trust file, and this version was built and "
        "pushed without a release. Release it and push the bundle (`edgedeploy push --release`); "
        "or, on a device for development, give `edgedeploy activate --allow-development`.",
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
        "`release: {texts: ...}` names no text of it; or a text belongs to no part; or what is "
        "denied is no single id. Write ids of the SPDX list, joined by AND, OR and WITH.",
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
    "E760": Explanation(
        "A release cannot be packaged in this format",
        "A package holds artifacts for certain systems and runtimes: an AAR those for Android, a "
        "Core ML package none for Linux. Nothing in this release is of that kind, or a name or "
        "version in it is one that the format cannot have; the message says which. "
        "`docs/` has a page for each format.",
    ),
    "E761": Explanation(
        "There is no such package format",
        "`--format` takes names of formats, separated by commas, or `all` for every one that suits "
        "the release. The hint lists them.",
    ),
    "E762": Explanation(
        "The measurements beside a bundle cannot be used",
        "`NAME-VERSION.measurements.json` and its signature are damaged, of another version of "
        "edgedeploy, or of another release than the bundle beside them. Get both again, or remove "
        "both: a bundle is whole without them.",
    ),
    "E763": Explanation(
        "Two things cannot be compared",
        "`edgedeploy compare` takes two builds, or two bundles of one name by somebody who "
        "is believed. The message says what does not fit.",
    ),
    "E765": Explanation(
        "A document of an app's measurement cannot be used",
        "`edgedeploy bench import` reads `bench-MODEL-BOARD-RUNTIME.json`, which the tests of a "
        "Swift package attach to their results. This file is not whole, was changed, or is of "
        "another version of edgedeploy; the message says which part is wrong. Nothing of it is "
        "used. Export the attachments again, or package and measure again.",
    ),
    "E766": Explanation(
        "A measurement of an app belongs to no artifact of the last build",
        "A measurement judges the artifact that was measured, on the board that it is for, under "
        "the conditions that the profile's `bench:` states. This one is of another artifact, "
        "system or condition; the message says which. Give the profile from which the app's "
        "package was made, built as it was then, or measure again with a new package.",
    ),
    "E767": Explanation(
        "There is something else where a package shall be",
        "A package is written as a folder named like its format. One that holds an earlier package "
        "is replaced; this one holds something else, and nothing in it was touched. Name another "
        "folder with -o, or move what is there.",
    ),
    "E775": Explanation(
        "A release has no target for a device",
        "A device's `board:` in devices.yaml decides which target of a release it gets. The "
        "release has none for that board, or several, or no board is said. Choose one with -t, "
        "correct the board, or get a release that has it.",
    ),
    "E776": Explanation(
        "A release is of another application than the depot",
        "Every application has a depot of its own on a device, named like its releases, with a "
        "trust file of its own. This release has another name: it would replace what it is not. "
        "Push it to the depot of its own application.",
    ),
    "E780": Explanation(
        "The key for OpenSSF Model Signing cannot be used",
        "That format knows no Ed25519. `--openssf-key` takes a private key on the curve P-256, "
        "P-384 or P-521, in PEM without a passphrase, as `openssl ecparam -name prime256v1 -genkey "
        "-noout` writes it. Nothing was written.",
    ),
}
