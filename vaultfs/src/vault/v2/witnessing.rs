//! What an open archive tells this machine's witness. A commit counts without it: what is lost is that a rollback is noticed.

use std::time::{Duration, Instant};

use crate::crypto::MasterKey;
use crate::format::v2::{Head, Header, WITNESS_SLOT_LEN, Witness, WitnessPhase};

use super::V2Archive;
use super::store::Store;

/// How long the witness may lie unsynced while commits go on.
const WITNESS_DELAY: Duration = Duration::from_secs(5);

impl<S: Store> V2Archive<S> {
    /// The next witness, of a state under some header and master.
    pub(super) fn witness(
        &self,
        header: &Header,
        master: &MasterKey,
        head: Head,
        length: u64,
        phase: WitnessPhase,
    ) -> Witness {
        Witness {
            number: self.witness_number + 1,
            vault_id: *header.vault_id(),
            head,
            length,
            header: header.digest(),
            fingerprint: master.fingerprint(&header.vault_id().0),
            phase,
        }
    }

    /// Notes that the present state was reached.
    pub(super) fn tell_witness(&mut self) {
        let witness = self.witness(&self.header, &self.master, self.head, self.length, WitnessPhase::Confirmed);
        match self.master.duplicate() {
            Ok(master) => self.write_witness(&witness, &master),
            Err(error) => self.witness_failed(error.to_string()),
        }
    }

    pub(super) fn write_witness(&mut self, witness: &Witness, master: &MasterKey) {
        let outcome =
            witness.encode(master).map_err(|error| error.to_string()).and_then(|slot: [u8; WITNESS_SLOT_LEN]| {
                self.store.write_witness(&slot, witness.offset()).map_err(|error| error.to_string())
            });
        match outcome {
            Ok(()) => {
                self.witness_number = witness.number;
                self.witness_unsynced.get_or_insert_with(Instant::now);
                self.witness_flaw = None;
            }
            Err(error) => self.witness_failed(error),
        }
    }

    pub(super) fn sync_witness(&mut self) {
        if self.witness_unsynced.take().is_some()
            && let Err(error) = self.store.sync_witness()
        {
            self.witness_failed(error.to_string());
        }
    }

    /// Syncs the witness where it has waited long enough.
    pub(super) fn sync_old_witness(&mut self) {
        if self.witness_unsynced.is_some_and(|since| since.elapsed() >= WITNESS_DELAY) {
            self.sync_witness();
        }
    }

    /// Told once, not with every commit.
    fn witness_failed(&mut self, reason: String) {
        if self.witness_flaw.is_none() {
            tracing::warn!(reason, "the witness of the archive cannot be written");
        }
        self.witness_flaw = Some(reason);
    }
}
