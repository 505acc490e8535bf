#include "kernel.h"

enum { NODES = 1023 };
struct node {
  struct node *left, *right;
  uint64_t value;
};
static struct node tree[NODES];

void recursion_setup(void) {
  for (uint32_t i = 0; i < NODES; i++) {
    uint32_t left = 2 * i + 1;
    tree[i].left = left < NODES ? &tree[left] : NULL;
    tree[i].right = left + 1 < NODES ? &tree[left + 1] : NULL;
    tree[i].value = i * 3;
  }
}

static uint32_t fibonacci(uint32_t n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); }

static uint32_t ackermann(uint32_t m, uint32_t n) {
  if (m == 0) return n + 1;
  if (n == 0) return ackermann(m - 1, 1);
  return ackermann(m - 1, ackermann(m, n - 1));
}

static uint64_t depth_sum(const struct node *node, uint64_t depth) {
  if (!node) return 0;
  uint64_t below = depth_sum(node->left, depth + 1) + depth_sum(node->right, depth + 1);
  return below + node->value * depth;
}

uint64_t recursion_run(uint32_t n) {
  uint64_t sum = 0;
  for (uint32_t i = 0; i < n; i++)
    sum = sum * 3 + fibonacci(16 + (i & 3)) + ackermann(2, 9 + (i & 3)) + depth_sum(tree, i);
  return sum;
}
