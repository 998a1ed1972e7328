// Kernels that break the rules, one each, and one that keeps them.
#pragma once
#include "../kernels.h"
KERNEL keeps_the_rules(int64_t *out);
KERNEL barrier_for_half();
KERNEL barrier_after_an_end();
KERNEL barriers_in_two_lines();
KERNEL half_a_warp();
KERNEL lanes_in_two_lines();
KERNEL beyond_the_end();
KERNEL before_the_beginning();
KERNEL unaligned();
KERNEL never_written();
KERNEL of_the_block_before(int64_t *out);
KERNEL read_after_write();
KERNEL write_after_read();
KERNEL write_after_write();
KERNEL read_after_add();
KERNEL lane_after_lane();
KERNEL warp_after_warp();
KERNEL shuffle_is_no_barrier();
#undef EVERY_KERNEL
#define EVERY_KERNEL(K)                                                                                                                  \
    K(keeps_the_rules) K(barrier_for_half) K(barrier_after_an_end) K(barriers_in_two_lines) K(half_a_warp) K(lanes_in_two_lines)          \
    K(beyond_the_end) K(before_the_beginning) K(unaligned) K(never_written) K(of_the_block_before) K(read_after_write)                    \
    K(write_after_read) K(write_after_write) K(read_after_add) K(lane_after_lane) K(warp_after_warp) K(shuffle_is_no_barrier)
