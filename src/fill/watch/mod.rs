//! `FILL_WATCH`: one long poll a name at another vwatch, again and again.
//!
//! The node copies each answer with its stamp; a follower stamps nothing. Each request has the stamp of the record that
//! the node holds. So a name never goes back in time, whichever address answers.
//!
//! | module | what it has |
//! |---|---|
//! | `follow` | the loop of a name, and what each answer changes |
//! | `request` | one request to the leader |
//! | `answer` | what an answer means |
//! | `copy` | a copy of an answer into the node's set |
//! | `behind` | the addresses that have less than this node; pure |

mod answer;
mod behind;
mod copy;
mod follow;
mod request;

pub(super) use answer::ANSWER_TIME;
pub(super) use follow::follow;
