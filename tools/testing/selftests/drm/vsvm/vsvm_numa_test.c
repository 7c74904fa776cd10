// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory that comes back from the device follows the NUMA policy of its mapping
 * or of the process, and what never goes there still migrates between nodes.
 * Needs two nodes; "numa=fake=2" on the kernel command line makes them.
 */

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <linux/mempolicy.h>

#include "../../kselftest_harness.h"
#include "vsvm_util.h"

#ifndef MAP_HUGE_2MB
#define MAP_HUGE_2MB	(21 << 26)
#endif

#define NPAGES	16
#define HUGETLB_SIZE	(2UL << 20)

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

/* Migration has one function for all entries, of which those of hugetlb are one kind. */
FIXTURE(hugetlb)
{
	char *mem;
	/* Of each node, as it was before. */
	long nr[2];
};

FIXTURE_VARIANT(hugetlb)
{
	int flags;
};

/* Mapped by file: the rmap of files. */
FIXTURE_VARIANT_ADD(hugetlb, shared)
{
	.flags = MAP_SHARED,
};

FIXTURE_VARIANT_ADD(hugetlb, private)
{
	.flags = MAP_PRIVATE,
};

#define HUGETLB(node, file) \
	"/sys/devices/system/node/node" #node "/hugepages/hugepages-2048kB/" file

static const char *const nr_hugepages[] = {
	HUGETLB(0, "nr_hugepages"),
	HUGETLB(1, "nr_hugepages"),
};

static const char *const free_hugepages[] = {
	HUGETLB(0, "free_hugepages"),
	HUGETLB(1, "free_hugepages"),
};

/* One more for each node.  Returns whether there are. */
static bool add_hugetlb(struct _test_data_hugetlb *self)
{
	int node;

	for (node = 0; node < 2; node++)
		self->nr[node] = vsvm_file_figure(nr_hugepages[node], "");
	for (node = 0; node < 2; node++) {
		if (vsvm_write_figure(nr_hugepages[node], self->nr[node] + 1) ||
		    vsvm_file_figure(free_hugepages[node], "") < 1)
			return false;
	}
	return true;
}

static void restore_hugetlb(struct _test_data_hugetlb *self)
{
	int node;

	for (node = 0; node < 2; node++)
		vsvm_write_figure(nr_hugepages[node], self->nr[node]);
}

FIXTURE_SETUP(hugetlb)
{
	if (!has_two_nodes())
		SKIP(return, "there is only one NUMA node");
	/* A skipped setup has no teardown. */
	if (!add_hugetlb(self)) {
		restore_hugetlb(self);
		SKIP(return, "no hugetlb pages of 2M");
	}

	self->mem = mmap(NULL, HUGETLB_SIZE, PROT_READ | PROT_WRITE,
			 MAP_ANONYMOUS | MAP_HUGETLB | MAP_HUGE_2MB |
			 variant->flags, -1, 0);
	ASSERT_NE(MAP_FAILED, (void *)self->mem);
	vsvm_fill(self->mem, HUGETLB_SIZE, 1);
}

FIXTURE_TEARDOWN(hugetlb)
{
	munmap(self->mem, HUGETLB_SIZE);
	restore_hugetlb(self);
}

/* The word that a file of /proc has for the number @nr. */
static uint64_t proc_word(const char *path, uint64_t nr)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	uint64_t word = 0;

	if (pread(fd, &word, sizeof(word), nr * sizeof(word)) != sizeof(word))
		word = ~0ULL;
	close(fd);
	return word;
}

/* How often the page is mapped. */
static uint64_t map_count(const void *addr)
{
	uint64_t entry = proc_word("/proc/self/pagemap",
				   (uintptr_t)addr / getpagesize());

	return proc_word("/proc/kpagecount", entry & ((1ULL << 55) - 1));
}

TEST_F(hugetlb, migrates)
{
	void *addr = self->mem;
	int from = node_of(addr), to = !from, status = -1;

	ASSERT_EQ(1, map_count(addr));
	ASSERT_EQ(0, syscall(__NR_move_pages, 0, 1UL, &addr, &to, &status,
			     MPOL_MF_MOVE));
	ASSERT_EQ(to, status);
	EXPECT_EQ(to, node_of(addr));
	EXPECT_EQ(1, map_count(addr));
	EXPECT_EQ(-1, vsvm_verify(self->mem, HUGETLB_SIZE, 1));
}

TEST_HARNESS_MAIN
