"""The lab: particles in the plane, where one sees what the samplers and the terms of Eq. 6 do.

settings    what a person may choose, with limits; needs no torch
targets     the densities: papers' sets of points, and drawings
networks    small generators of the sets with their discriminators, and their exact counterparts in the plane
sampling    each sampler as a function from one state of the particles to the next
course      frames: positions, the vectors A, B and C, distance to the target, coverage
"""
