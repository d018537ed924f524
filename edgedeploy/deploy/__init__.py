"""From a build to devices: what a version holds, push, activate, bench, parity, fleets."""
