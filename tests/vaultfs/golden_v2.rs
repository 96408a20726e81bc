//! Archives that a release wrote (`tests/fixtures/v2`): later ones must read them for ever.
