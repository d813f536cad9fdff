"""Algorithm 1: the flow, the log-densities of Eq. 6, and the kernel estimators of them. Reads like the paper."""
