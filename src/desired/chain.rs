//! A chain of conditions: those that hold, in the order checked, and the first that does not.

/// The conditions that held so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Chain(Vec<String>);

/// The conditions that held, and the first that did not.
#[derive(Clone, Debug)]
pub(super) struct Broken {
    pub(super) holds: Vec<String>,
    pub(super) fails: String,
}

impl Chain {
    /// Notes a condition that holds; not twice in a row, where two rules ask for the same.
    pub(super) fn holds(&mut self, what: impl Into<String>) {
        let what = what.into();
        if self.0.last() != Some(&what) {
            self.0.push(what);
        }
    }

    /// Ends the chain with the condition that fails.
    pub(super) fn fails(&self, what: impl Into<String>) -> Broken {
        Broken { holds: self.0.clone(), fails: what.into() }
    }

    /// Notes the conditions of another chain.
    pub(super) fn append(&mut self, other: &Self) {
        self.0.extend_from_slice(&other.0);
    }

    /// Ends the chain the way another one ended.
    pub(super) fn then(mut self, broken: Broken) -> Broken {
        self.0.extend(broken.holds);
        Broken { holds: self.0, fails: broken.fails }
    }

    /// Goes on if the condition holds.
    pub(super) fn check(
        &mut self,
        condition: bool,
        holds: impl FnOnce() -> String,
        fails: impl FnOnce() -> String,
    ) -> Result<(), Broken> {
        if condition {
            self.holds(holds());
            Ok(())
        } else {
            Err(self.fails(fails()))
        }
    }

    /// The conditions, all of which held.
    pub(super) fn reasons(&self) -> Vec<String> {
        self.0.clone()
    }
}
