//! Random faults on a cluster.
