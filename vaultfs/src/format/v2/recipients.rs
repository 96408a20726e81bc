//! Recipient slots: the ways to the master for those who hold an age identity.

use crate::crypto::{AGE_FILE_MAX, CryptoError, Identity, MasterKey, RECIPIENT_MAX, Recipient};
use crate::format::FormatError;

use super::cursor::Cursor;

/// Recipients that a header holds at most.
pub const RECIPIENTS_MAX: usize = 32;
/// The longest label, in bytes.
pub const LABEL_MAX: usize = 255;

/// A way to the master for whoever holds an age identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecipientSlot {
    /// What the user calls it.
    pub label: String,
    /// As age writes it.
    pub recipient: String,
    /// An age file that holds the master.
    pub wrapped: Vec<u8>,
}

impl RecipientSlot {
    /// Wraps a master for a recipient.
    ///
    /// # Errors
    /// Those of [`Recipient::wrap`].
    pub fn wrap(label: &str, recipient: &Recipient, master: &MasterKey) -> Result<Self, CryptoError> {
        let (label, text) = (label.to_owned(), recipient.as_str().to_owned());
        Ok(Self { label, recipient: text, wrapped: recipient.wrap(master)? })
    }

    /// Wraps another master for the same recipient.
    ///
    /// # Errors
    /// [`CryptoError::Recipient`], which names it: it was written by a program that supports more.
    pub fn rewrap(&self, master: &MasterKey) -> Result<Self, CryptoError> {
        let named = |error| match error {
            CryptoError::Recipient(reason) => CryptoError::Recipient(format!("{self}: {reason}")),
            error => error,
        };
        let recipient = Recipient::parse(&self.recipient).map_err(named)?;
        Self::wrap(&self.label, &recipient, master)
    }

    /// The body of its slot in a header.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut body = vec![self.label.len() as u8];
        body.extend_from_slice(self.label.as_bytes());
        for field in [self.recipient.as_bytes(), &self.wrapped] {
            body.extend_from_slice(&(field.len() as u16).to_le_bytes());
            body.extend_from_slice(field);
        }
        body
    }

    /// Parses such a body; `None` also where something is longer than any honest slot has it.
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let mut cursor = Cursor(body);
        let label = cursor.short_text()?.to_owned();
        let len = cursor.u16()?.into();
        let recipient = std::str::from_utf8(cursor.take(len)?).ok()?.to_owned();
        let len = cursor.u16()?.into();
        let wrapped = cursor.take(len)?.to_vec();
        let is_sane = recipient.len() <= RECIPIENT_MAX && wrapped.len() <= AGE_FILE_MAX;
        cursor.end(Self { label, recipient, wrapped }).filter(|_| is_sane)
    }
}

/// Its label, and the beginning of the recipient; made printable, since nothing of it need be authenticated.
impl std::fmt::Display for RecipientSlot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let printable = |char: char| if char.is_control() { '\u{fffd}' } else { char };
        let label: String = self.label.chars().map(printable).collect();
        // An SSH key begins with its kind and length, and so tells apart at its end only.
        let count = self.recipient.chars().count();
        let recipient: String = match count {
            0..=28 => self.recipient.chars().map(printable).collect(),
            _ => {
                let shown = |range: std::ops::Range<usize>| {
                    self.recipient.chars().skip(range.start).take(range.len()).map(printable).collect::<String>()
                };
                format!("{}…{}", shown(0..12), shown(count - 8..count))
            }
        };
        write!(f, "{label} ({recipient})")
    }
}

/// Finds the slot of an identity in what may be a damaged header, wherever it lies, and takes the master out of it.
///
/// # Errors
/// [`FormatError::WrongIdentity`]: there are others only. [`FormatError::Header`]: none is whole. [`FormatError::Crypto`].
pub(super) fn salvage(start: &[u8], kind: u8, identity: &Identity) -> Result<(MasterKey, RecipientSlot), FormatError> {
    let slots: Vec<_> = (0..start.len()).filter_map(|at| slot_at(&start[at..], kind)).collect();
    let master = match unlock(&slots, identity) {
        Err(FormatError::NoSlot(_)) => return Err(FormatError::Header("none of its recipients is whole")),
        outcome => outcome?,
    };
    let is_ours = |slot: &RecipientSlot| identity.recipients().contains(&slot.recipient);
    let slot = slots.into_iter().find(is_ours).expect("one of them opened");
    Ok((master, slot))
}

fn slot_at(bytes: &[u8], kind: u8) -> Option<RecipientSlot> {
    let mut cursor = Cursor(bytes);
    let length = (cursor.u8()? == kind).then(|| cursor.u16())??;
    RecipientSlot::parse(cursor.take(length.into())?).filter(|slot| !slot.recipient.is_empty())
}

/// Takes the master out of the slot that is an identity's.
///
/// # Errors
/// [`FormatError::NoSlot`]: there is no recipient at all. [`FormatError::WrongIdentity`]: it is none of them.
/// [`FormatError::Header`]: it is one, and its slot is damaged. [`FormatError::Crypto`].
pub(super) fn unlock(slots: &[RecipientSlot], identity: &Identity) -> Result<MasterKey, FormatError> {
    if slots.is_empty() {
        return Err(FormatError::NoSlot("recipient"));
    }
    let mut ours = slots.iter().filter(|slot| identity.recipients().contains(&slot.recipient)).peekable();
    if ours.peek().is_none() {
        return Err(FormatError::WrongIdentity(slots.iter().map(RecipientSlot::to_string).collect()));
    }
    for slot in ours {
        match identity.unwrap(&slot.wrapped) {
            Err(CryptoError::Authentication) => {}
            outcome => return outcome.map_err(FormatError::Crypto),
        }
    }
    Err(FormatError::Header("the slot of this recipient is damaged"))
}
