//! Contents of two trees, which seal with different keys: compared and copied page by page.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::crypto::{PAGE_SIZE, PageCipher, SessionSealer};

use super::TreeError;
use super::content::{Content, Page};

const PAGE: u64 = PAGE_SIZE as u64;

/// A content with what it is sealed with.
#[derive(Clone, Copy)]
pub(super) struct Held<'a> {
    pub content: &'a Arc<Content>,
    pub sealer: &'a SessionSealer,
}

impl Held<'_> {
    /// Whether both hold the same bytes.
    pub fn is_same(&self, other: &Held<'_>) -> Result<bool, TreeError> {
        if Arc::ptr_eq(self.content, other.content) {
            return Ok(true);
        }
        if self.content.size() != other.content.size() {
            return Ok(false);
        }
        self.with_both(other, |ciphers| {
            for index in self.indices(other) {
                if self.differs(other, index, ciphers)? {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }

    /// The pages below the size that hold other bytes than in an earlier content, and those that hold none any more.
    pub fn changed_pages(&self, earlier: &Held<'_>) -> Result<(Vec<u64>, Vec<u64>), TreeError> {
        let (mut changed, mut holes) = (Vec::new(), Vec::new());
        self.with_both(earlier, |ciphers| {
            for index in self.indices(earlier) {
                match self.differs(earlier, index, ciphers)? {
                    true if self.content.sealed(index).is_some() => changed.push(index),
                    true => holes.push(index),
                    false => {}
                }
            }
            Ok(())
        })?;
        Ok((changed, holes))
    }

    /// Copies it for a tree that seals with another key. What is only reserved is left out.
    pub fn sealed_for(&self, sealer: &SessionSealer) -> Result<Arc<Content>, TreeError> {
        if std::ptr::eq(self.sealer, sealer) {
            return Ok(self.content.clone());
        }
        let mut copy = Content::default();
        copy.set_size(self.content.size());
        let mut plain = Zeroizing::new([0; PAGE_SIZE]);
        self.sealer.with_cipher(|from| {
            sealer.with_cipher(|to| {
                for (index, page) in self.content.sealed_pages() {
                    let held = &mut plain[..page.len()];
                    from.open(page, held).map_err(|_| TreeError::Sealing)?;
                    copy.insert(index, to.seal(held));
                }
                Ok(Arc::new(copy))
            })
        })
    }

    fn with_both<T>(&self, other: &Held<'_>, work: impl FnOnce(Ciphers<'_, '_>) -> T) -> T {
        self.sealer.with_cipher(|own| other.sealer.with_cipher(|theirs| work((own, theirs))))
    }

    /// Pages below the size that either holds.
    fn indices(&self, other: &Held<'_>) -> BTreeSet<u64> {
        let end = self.content.size().div_ceil(PAGE);
        let both = self.content.sealed_pages().chain(other.content.sealed_pages());
        both.map(|(index, _)| index).filter(|&index| index < end).collect()
    }

    /// Whether the bytes of a page below the size differ.
    fn differs(&self, other: &Held<'_>, index: u64, (own, theirs): Ciphers<'_, '_>) -> Result<bool, TreeError> {
        let (mut left, mut right) = (Zeroizing::new([0; PAGE_SIZE]), Zeroizing::new([0; PAGE_SIZE]));
        open(self.content.sealed(index), own, &mut left)?;
        open(other.content.sealed(index), theirs, &mut right)?;
        let end = (self.content.size() - index * PAGE).min(PAGE) as usize;
        Ok(left[..end].cmp(&right[..end]) != Ordering::Equal)
    }
}

/// Of a content and of the other.
type Ciphers<'a, 'b> = (&'a PageCipher<'b>, &'a PageCipher<'b>);

fn open(page: Option<&Page>, cipher: &PageCipher<'_>, out: &mut [u8; PAGE_SIZE]) -> Result<(), TreeError> {
    match page {
        Some(page) => page.open_padded(cipher, out).map(drop),
        None => Ok(()),
    }
}
