// SPDX-License-Identifier: MIT
/*
 * The arena: as many of the page allocator's largest blocks as were asked for. They lie where they lie; those next to
 * each other become one range, and what is between ranges the core never hands out.
 */
#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/mm.h>
#include <linux/sort.h>

#include "core.h"
#include "engine.h"

#define BLOCK_ORDER 10
#define BLOCK_BYTES (PAGE_SIZE << BLOCK_ORDER)
#define MOST_BLOCKS 256
#define LONGEST_SPAN (4ull << 30)	/* the core has a bit for each page of it */

static u64 blocks[MOST_BLOCKS];	/* physical */
static unsigned int block_count;
static struct refhv_range ranges[MOST_BLOCKS];

static int by_address(const void *a, const void *b)
{
	u64 x = *(const u64 *)a, y = *(const u64 *)b;

	return x < y ? -1 : x > y;
}

static void free_blocks(unsigned int first, unsigned int end)
{
	unsigned int i;

	for (i = first; i < end; i++)
		__free_pages(pfn_to_page(blocks[i] >> PAGE_SHIFT), BLOCK_ORDER);
}

/* Of blocks in order: keeps the largest number of them that a span holds. */
static void keep_densest(void)
{
	unsigned int first = 0, best = 0, most = 0, end = 0;

	for (first = 0; first < block_count; first++) {
		while (end < block_count && blocks[end] + BLOCK_BYTES - blocks[first] <= LONGEST_SPAN)
			end++;
		if (end - first > most) {
			most = end - first;
			best = first;
		}
	}
	free_blocks(0, best);
	free_blocks(best + most, block_count);
	memmove(blocks, blocks + best, most * sizeof(*blocks));
	block_count = most;
}

int refhv_memory_open(struct refhv_setup *setup, unsigned int mb)
{
	unsigned int wanted = clamp_t(unsigned int, mb / (BLOCK_BYTES >> 20), 4, MOST_BLOCKS), i;

	for (block_count = 0; block_count < wanted; block_count++) {
		struct page *page = refhv_step_fails() ? NULL :
				    alloc_pages(GFP_KERNEL | __GFP_NOWARN | __GFP_RETRY_MAYFAIL, BLOCK_ORDER);

		if (!page)
			break;
		blocks[block_count] = page_to_phys(page);
	}
	if (block_count < wanted) {
		pr_err("refhv: %u MB in blocks of 4 MB are not to be had (parameter memory_mb), %u are\n",
		       wanted * 4, block_count * 4);
		refhv_memory_close();
		return -ENOMEM;
	}
	sort(blocks, block_count, sizeof(*blocks), by_address, NULL);
	keep_densest();
	setup->ranges = ranges;
	setup->range_count = 0;
	for (i = 0; i < block_count; i++) {
		struct refhv_range *last = ranges + setup->range_count - 1;

		if (setup->range_count && last->physical + last->bytes == blocks[i])
			last->bytes += BLOCK_BYTES;
		else
			ranges[setup->range_count++] = (struct refhv_range){ blocks[i], BLOCK_BYTES };
	}
	return 0;
}

void refhv_memory_close(void)
{
	free_blocks(0, block_count);
	block_count = 0;
}
