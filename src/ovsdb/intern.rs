//! Strings that repeat, kept once.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// Shares equal strings. A direct-mapped cache: bounded, never in need of cleaning, and it forgets what does not repeat.
#[derive(Clone, Debug)]
pub struct Interner {
    slots: Vec<Option<Arc<str>>>,
    enabled: bool,
}

impl Default for Interner {
    fn default() -> Self {
        Self { slots: Vec::new(), enabled: true }
    }
}

/// What a cache holds says nothing about its owner.
impl PartialEq for Interner {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Interner {
    /// The hosts and networks one host has to do with fit several times.
    const SLOTS: usize = 1 << 10;
    /// Longer strings hardly ever repeat.
    const LONGEST: usize = 64;

    /// One that shares nothing and costs nothing, for a row or two.
    pub fn off() -> Self {
        Self { slots: Vec::new(), enabled: false }
    }

    /// `text`, shared if it was seen lately.
    pub fn get(&mut self, text: &str) -> Arc<str> {
        if !self.enabled || text.len() > Self::LONGEST {
            return Arc::from(text);
        }
        if self.slots.is_empty() {
            self.slots.resize(Self::SLOTS, None);
        }
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        #[expect(clippy::cast_possible_truncation, reason = "any bits of the hash will do")]
        let at = hasher.finish() as usize % Self::SLOTS;
        match self.slots.get_mut(at) {
            Some(Some(known)) if **known == *text => known.clone(),
            Some(slot) => slot.insert(Arc::from(text)).clone(),
            None => Arc::from(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_strings_are_one() {
        let mut interner = Interner::default();
        assert!(Arc::ptr_eq(&interner.get("compute-1"), &interner.get("compute-1")));
        assert_eq!(&*interner.get("compute-2"), "compute-2");
        let mut off = Interner::off();
        assert!(!Arc::ptr_eq(&off.get("compute-1"), &off.get("compute-1")));
    }
}
