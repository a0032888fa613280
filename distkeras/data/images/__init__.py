"""What happens to images between the file and the model: decoding, resizing and random changes.

Random changes are functions `change(images, draws)` of a batch. All chance is in `draws`, a row of numbers for
each example made from (seed, epoch, example id), so an example is changed in the same way at any place of a
batch, at any world size and after a resume. Pixels stay uint8 between changes: a quarter of the memory traffic.
"""
