// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory that comes back from the device follows the NUMA policy of its mapping
 * or of the process.  Needs two nodes; "numa=fake=2" on the kernel command line
 * makes them.
 */

#include <errno.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <linux/mempolicy.h>

#include "../../kselftest_harness.h"
#include "vsvm_util.h"

#define NPAGES	16

FIXTURE(numa)
{
	struct vsvm_gpu gpu;
	size_t page_size;
	size_t size;
	char *mem;
};

static int node_of(void *addr)
{
	int node = -1;

	if (syscall(__NR_move_pages, 0, 1UL, &addr, NULL, &node, 0))
		return -errno;
	return node;
}

static bool has_two_nodes(void)
{
	return !access("/sys/devices/system/node/node1", F_OK);
}

FIXTURE_SETUP(numa)
{
	if (!has_two_nodes())
		SKIP(return, "there is only one NUMA node");

	ASSERT_EQ(0, vsvm_gpu_open(&self->gpu, 0));
	self->page_size = getpagesize();
	self->size = NPAGES * self->page_size;
	self->mem = mmap(NULL, self->size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, (void *)self->mem);
	vsvm_fill(self->mem, self->size, 1);
}

FIXTURE_TEARDOWN(numa)
{
	munmap(self->mem, self->size);
	vsvm_gpu_close(&self->gpu);
}

/* To the device, and back by CPU faults if there are any. */
static int there_and_back(struct _test_data_numa *self)
{
	uint64_t sum = vsvm_checksum(self->mem, self->size);
	int ret;

	ret = vsvm_prefetch(&self->gpu, self->mem, self->size,
			    DRM_VSVM_PLACE_DEVICE);
	if (!ret)
		ret = vsvm_bring_back(&self->gpu, self->mem, self->size);
	if (ret)
		return ret;
	return vsvm_checksum(self->mem, self->size) == sum ? 0 : -EIO;
}

static int pages_on(struct _test_data_numa *self, int node)
{
	int i, n = 0;

	for (i = 0; i < NPAGES; i++)
		n += node_of(self->mem + i * self->page_size) == node;
	return n;
}

TEST_F(numa, policy_of_mapping)
{
	unsigned long mask;
	int node;

	for (node = 0; node < 2; node++) {
		mask = 1UL << node;
		ASSERT_EQ(0, syscall(__NR_mbind, self->mem, self->size,
				     MPOL_BIND, &mask, 8 * sizeof(mask), 0));
		ASSERT_EQ(0, there_and_back(self));
		EXPECT_EQ(NPAGES, pages_on(self, node));
	}
}

TEST_F(numa, policy_of_process)
{
	unsigned long mask;
	int node;

	for (node = 0; node < 2; node++) {
		mask = 1UL << node;
		ASSERT_EQ(0, syscall(__NR_set_mempolicy, MPOL_BIND, &mask,
				     8 * sizeof(mask)));
		ASSERT_EQ(0, there_and_back(self));
		EXPECT_EQ(NPAGES, pages_on(self, node));
	}
	ASSERT_EQ(0, syscall(__NR_set_mempolicy, MPOL_DEFAULT, NULL, 0UL));
}

TEST_F(numa, interleave)
{
	unsigned long mask = 3;

	ASSERT_EQ(0, syscall(__NR_mbind, self->mem, self->size,
			     MPOL_INTERLEAVE, &mask, 8 * sizeof(mask), 0));
	ASSERT_EQ(0, there_and_back(self));
	EXPECT_EQ(NPAGES / 2, pages_on(self, 0));
	EXPECT_EQ(NPAGES / 2, pages_on(self, 1));
}

TEST_HARNESS_MAIN
