"""A sum tree in the graph: draws indices in proportion to their values.

The leaves of a complete binary tree are the values, every other node is the sum of its
two children (Schaul et al. 2015, arXiv:1511.05952, appendix B.2.1). Sums are always
computed anew from the children, so that rounding does not build up.
"""

import tensorflow as tf


class SumTree(tf.Module):
    """Values that can be changed and drawn from in logarithmic time.

      tree = SumTree(4)
      tree.set(tf.constant([0, 2]), tf.constant([1.0, 3.0]))
      tree.draw(tf.constant([0.2, 0.3, 0.9]))  # [0, 2, 2]

    Args:
      size: how many values there are; they start from 0.

    Attributes:
      nodes: float32 [2 L], node 1 the root, the children of node i at 2 i and 2 i + 1,
        the leaves from L on, L the smallest power of two that is at least `size`.
    """

    def __init__(self, size):
        super().__init__()
        self.size = size
        self.depth = max(1, (size - 1).bit_length())
        self.nodes = tf.Variable(tf.zeros([2 << self.depth]), trainable=False)

    @property
    def total(self):
        """The sum of all values, float32."""
        return tf.gather(self.nodes, 1)

    def get(self, index):
        """Returns the values at indices, float32 [...]."""
        return tf.gather(self.nodes, index + (1 << self.depth))

    def set(self, index, value):
        """Changes values.

        Args:
          index: int32 [B], each from 0 to `size` - 1; if one is there twice, either of
            its values may be kept.
          value: float32 [B], finite and not negative.
        """
        node = index + (1 << self.depth)
        self.nodes.scatter_nd_update(node[:, None], value)
        for _ in range(self.depth):
            node //= 2
            children = tf.gather(self.nodes, tf.stack([2 * node, 2 * node + 1]))
            self.nodes.scatter_nd_update(node[:, None], children[0] + children[1])

    def draw(self, fraction):
        """Returns the indices at which the running sum of all values passes a fraction.

        Args:
          fraction: float32 [...], in [0, 1), of the total; uniform numbers give each
            index with a probability in proportion to its value.

        Returns:
          int32 [...]; never an index whose value is 0, unless all are.
        """
        rest = fraction * self.total
        node = tf.ones_like(rest, tf.int32)
        for _ in range(self.depth):
            left, right = tf.unstack(
                tf.gather(self.nodes, tf.stack([2 * node, 2 * node + 1]))
            )
            # A rounded remainder may exceed what there is on the right.
            goes_right = (rest >= left) & (right > 0)
            rest = tf.where(goes_right, rest - left, rest)
            node = 2 * node + tf.cast(goes_right, tf.int32)
        return node - (1 << self.depth)
