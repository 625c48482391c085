"""Masks as pictures: anchor colours, their perturbation, and the way back to class ids."""
