//! Peers and routes behind one handle / poll / next_deadline.
