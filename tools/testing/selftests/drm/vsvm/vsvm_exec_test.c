// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tests of jobs: effects of each operation, to the word; failures; fences in
 * and out; order; jobs without an end; limits.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <drm/drm.h>

#include "../../kselftest_harness.h"
#include "vsvm_util.h"

#define TIMEOUT		180
#define NPAGES		16

FIXTURE(exec)
{
	struct vsvm_gpu gpu;
	size_t page;
	/* Two mappings of NPAGES pages. */
	char *mem;
	char *other;
	size_t size;
};

FIXTURE_VARIANT(exec)
{
	unsigned int device;
	/* Where the memory is before. */
	uint32_t place;
};

FIXTURE_VARIANT_ADD(exec, untouched) {
	.place = DRM_VSVM_PLACE_NONE,
};

FIXTURE_VARIANT_ADD(exec, system) {
	.place = DRM_VSVM_PLACE_SYSTEM,
};

FIXTURE_VARIANT_ADD(exec, device) {
	.place = DRM_VSVM_PLACE_DEVICE,
};

FIXTURE_VARIANT_ADD(exec, second_device) {
	.device = 1,
	.place = DRM_VSVM_PLACE_SYSTEM,
};

FIXTURE_SETUP(exec)
{
	int ret = vsvm_gpu_open(&self->gpu, variant->device);

	if (ret == -ENODEV && variant->device)
		SKIP(return, "one device only");
	ASSERT_EQ(0, ret);
	self->page = getpagesize();
	self->size = NPAGES * self->page;
	self->mem = vsvm_alloc(self->size, self->size);
	self->other = vsvm_alloc(self->size, self->size);
	ASSERT_NE(NULL, self->mem);
	ASSERT_NE(NULL, self->other);

	if (variant->place == DRM_VSVM_PLACE_NONE)
		return;
	memset(self->mem, 0, self->size);
	memset(self->other, 0, self->size);
	ASSERT_EQ(0, vsvm_prefetch(&self->gpu, self->mem, self->size,
				   variant->place));
	ASSERT_EQ(0, vsvm_prefetch(&self->gpu, self->other, self->size,
				   variant->place));
}

FIXTURE_TEARDOWN(exec)
{
	munmap(self->mem, self->size);
	munmap(self->other, self->size);
	EXPECT_EQ(0, vsvm_wait_used(self->gpu.fd, self->gpu.stats.vram_used));
	vsvm_gpu_close(&self->gpu);
}

TEST_F(exec, fill)
{
	uint64_t *word = (uint64_t *)self->mem;
	size_t n = self->page / sizeof(*word);

	/* From the last word of a page to the first of the one after the next. */
	ASSERT_EQ(0, vsvm_gpu_fill(&self->gpu, word + n - 1,
				   (n + 2) * sizeof(*word), 0x123456789abcdef0));
	EXPECT_EQ(-1, vsvm_verify_value(word, self->page - 8, 0));
	EXPECT_EQ(-1, vsvm_verify_value(word + n - 1, self->page + 16,
					0x123456789abcdef0));
	EXPECT_EQ(-1, vsvm_verify_value(word + 2 * n + 1,
					self->size - 2 * self->page - 8, 0));

	ASSERT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem, self->size, -1ULL));
	EXPECT_EQ(-1, vsvm_verify_value(self->mem, self->size, -1ULL));
}

/* The memory is where the fault put it, until the CPU takes it back, if it does. */
TEST_F(exec, residency)
{
	ASSERT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem, self->size, 5));
	EXPECT_EQ(NPAGES, vsvm_count(&self->gpu, self->mem, self->size,
				     DRM_VSVM_PLACE_DEVICE));
	EXPECT_EQ(-1, vsvm_verify_value(self->mem, self->size, 5));
	EXPECT_EQ(NPAGES, vsvm_count(&self->gpu, self->mem, self->size,
				     vsvm_accessed_place(&self->gpu)));
}

static int check_copy(struct _test_data_exec *self, size_t to, size_t from,
		      size_t size)
{
	size_t i, n = self->size;
	unsigned char *expect;
	int bad = 0;

	vsvm_fill(self->mem, n, to * 1000 + from + size);
	vsvm_fill(self->other, n, 77);
	expect = malloc(n);
	if (!expect)
		return -ENOMEM;
	memcpy(expect, self->other, n);
	memcpy(expect + to, self->mem + from, size);

	bad = vsvm_gpu_copy(&self->gpu, self->other + to, self->mem + from,
			    size);
	for (i = 0; i < n && !bad; i++)
		if ((unsigned char)self->other[i] != expect[i])
			bad = i + 1;
	free(expect);
	if (!bad && vsvm_verify(self->mem, n, to * 1000 + from + size) != -1)
		bad = -ESTALE;
	return bad;
}

TEST_F_TIMEOUT(exec, copy, TIMEOUT)
{
	size_t page = self->page;

	EXPECT_EQ(0, check_copy(self, 0, 0, self->size));
	EXPECT_EQ(0, check_copy(self, 0, 0, 1));
	EXPECT_EQ(0, check_copy(self, 3, 5, 7));
	EXPECT_EQ(0, check_copy(self, page - 1, 0, 2));
	EXPECT_EQ(0, check_copy(self, 0, page - 1, 2));
	EXPECT_EQ(0, check_copy(self, page - 3, page - 5, 3 * page + 11));
	EXPECT_EQ(0, check_copy(self, 1, 0, self->size - 1));
	EXPECT_EQ(0, check_copy(self, 0, 1, self->size - 1));
	EXPECT_EQ(0, check_copy(self, self->size - 1, 0, 1));
}

/* Within one mapping, upwards and downwards, right beside each other. */
TEST_F(exec, copy_self)
{
	size_t half = self->size / 2;

	vsvm_fill(self->mem, half, 1);
	ASSERT_EQ(0, vsvm_gpu_copy(&self->gpu, self->mem + half, self->mem,
				   half));
	EXPECT_EQ(-1, vsvm_verify(self->mem, half, 1));
	EXPECT_EQ(-1, vsvm_verify(self->mem + half, half, 1));
	vsvm_fill(self->mem + half, half, 2);
	ASSERT_EQ(0, vsvm_gpu_copy(&self->gpu, self->mem, self->mem + half,
				   half));
	EXPECT_EQ(-1, vsvm_verify(self->mem, half, 2));
	EXPECT_EQ(-1, vsvm_verify(self->mem + half, half, 2));
}

TEST_F(exec, atomics)
{
	uint64_t *word = (uint64_t *)self->mem;
	uint64_t old;

	word[1] = 7;
	ASSERT_EQ(0, vsvm_gpu_add(&self->gpu, word + 1, 5, &old));
	EXPECT_EQ(7ULL, old);
	ASSERT_EQ(0, vsvm_gpu_add(&self->gpu, word + 1, -13ULL, &old));
	EXPECT_EQ(12ULL, old);
	EXPECT_EQ(-1ULL, word[1]);

	ASSERT_EQ(0, vsvm_gpu_cas(&self->gpu, word + 1, 0, 1, &old));
	EXPECT_EQ(-1ULL, old);
	EXPECT_EQ(-1ULL, word[1]);
	ASSERT_EQ(0, vsvm_gpu_cas(&self->gpu, word + 1, -1ULL, 9, &old));
	EXPECT_EQ(-1ULL, old);
	EXPECT_EQ(9ULL, word[1]);
	EXPECT_EQ(0ULL, word[0]);
	EXPECT_EQ(0ULL, word[2]);
}

/* The result may be anywhere: beside the word, on the stack, nowhere. */
TEST_F(exec, results)
{
	uint64_t *word = (uint64_t *)self->mem, local = 1, *heap;
	struct drm_vsvm_op ops[4];

	heap = calloc(1, sizeof(*heap));
	ASSERT_NE(NULL, heap);
	word[0] = 1;
	ops[0] = vsvm_op_add(word, 1, word + 1);
	ops[1] = vsvm_op_add(word, 1, &local);
	ops[2] = vsvm_op_cas(word, 3, 4, heap);
	ops[3] = vsvm_op_add(word, 1, NULL);
	ASSERT_EQ(0, vsvm_run(&self->gpu, ops, 4, NULL));
	EXPECT_EQ(5ULL, word[0]);
	EXPECT_EQ(1ULL, word[1]);
	EXPECT_EQ(2ULL, local);
	EXPECT_EQ(3ULL, *heap);
	free(heap);
}

TEST_F(exec, checksum)
{
	uint64_t sum;

	ASSERT_EQ(0, vsvm_gpu_checksum(&self->gpu, self->mem, self->size, &sum));
	EXPECT_EQ(vsvm_checksum(self->mem, self->size), sum);
	vsvm_fill(self->mem, self->size, 3);
	ASSERT_EQ(0, vsvm_gpu_checksum(&self->gpu, self->mem, self->size, &sum));
	EXPECT_EQ(vsvm_checksum(self->mem, self->size), sum);
	ASSERT_EQ(0, vsvm_gpu_checksum(&self->gpu, self->mem + self->page - 8,
				       self->page + 16, &sum));
	EXPECT_EQ(vsvm_checksum(self->mem + self->page - 8, self->page + 16),
		  sum);
	EXPECT_EQ(-1, vsvm_verify(self->mem, self->size, 3));
}

struct node {
	struct node *next;
	uint64_t value;
};

/* A list through both mappings; each page has nodes. */
static struct node *make_list(struct _test_data_exec *self, int count)
{
	struct node *node, *first = NULL;
	char *base;
	int i;

	for (i = count - 1; i >= 0; i--) {
		base = i & 1 ? self->mem : self->other;
		node = (struct node *)(base + (i * 7 % NPAGES) * self->page +
				       i * sizeof(*node));
		node->next = first;
		node->value = i;
		first = node;
	}
	return first;
}

TEST_F(exec, walk)
{
	size_t offset = offsetof(struct node, value);
	struct node *first = make_list(self, 100), *node;
	uint64_t nodes, sum, i = 0;

	ASSERT_EQ(0, vsvm_gpu_walk(&self->gpu, first, 1000, offset, 1000,
				   &nodes, &sum));
	EXPECT_EQ(100ULL, nodes);
	EXPECT_EQ(99ULL * 100 / 2, sum);
	for (node = first; node; node = node->next, i++)
		ASSERT_EQ(1000 + i, node->value);
	EXPECT_EQ(100ULL, i);

	/* Not more nodes than wanted. */
	ASSERT_EQ(0, vsvm_gpu_walk(&self->gpu, first, 3, offset, -1000ULL,
				   &nodes, &sum));
	EXPECT_EQ(3ULL, nodes);
	EXPECT_EQ(3003ULL, sum);
	EXPECT_EQ(2ULL, first->next->next->value);
	EXPECT_EQ(1003ULL, first->next->next->next->value);

	/* A circle, and no list. */
	first->next = first;
	ASSERT_EQ(0, vsvm_gpu_walk(&self->gpu, first, 1000, offset, 1,
				   &nodes, &sum));
	EXPECT_EQ(1000ULL, nodes);
	EXPECT_EQ(1000ULL, first->value);
	EXPECT_EQ(999ULL * 1000 / 2, sum);
	ASSERT_EQ(0, vsvm_gpu_walk(&self->gpu, NULL, 5, offset, 1, &nodes,
				   &sum));
	EXPECT_EQ(0ULL, nodes);
	EXPECT_EQ(0ULL, sum);
}

TEST_F(exec, muladd)
{
	uint64_t *dst = (uint64_t *)self->mem, *src = (uint64_t *)self->other;
	size_t i, n = self->size / sizeof(*dst), bad = 0;
	uint64_t scalar = 0x100000001;

	vsvm_fill(dst, self->size, 4);
	for (i = 0; i < n; i++)
		src[i] = i * i;
	ASSERT_EQ(0, vsvm_gpu_muladd(&self->gpu, dst, src, &scalar,
				     self->size));
	for (i = 0; i < n; i++)
		dst[i] -= src[i] * scalar;
	EXPECT_EQ(-1, vsvm_verify(dst, self->size, 4));

	/*
	 * In place, and with the factor in the memory that is changed: it is
	 * read once.
	 */
	for (i = 0; i < n; i++)
		src[i] = i + 2;
	ASSERT_EQ(0, vsvm_gpu_muladd(&self->gpu, src, src, src, self->size));
	for (i = 0; i < n; i++)
		bad += src[i] != 3 * (i + 2);
	EXPECT_EQ(0, bad);
}

/*
 * Operations see the effects of those before them; as many as a job may have.
 */
TEST_F(exec, many_ops)
{
	uint32_t i, n = self->gpu.query.max_ops;
	uint64_t *word = (uint64_t *)self->mem;
	struct drm_vsvm_op *ops;

	ops = calloc(n, sizeof(*ops));
	ASSERT_NE(NULL, ops);
	ops[0] = vsvm_op_fill(word, 8, 1);
	for (i = 1; i < n; i++)
		ops[i] = vsvm_op_copy(word + i % 512, word + (i - 1) % 512, 8);
	ops[n / 2] = vsvm_op_add(word + (n / 2 - 1) % 512, 1, NULL);
	ops[n / 2 + 1] = vsvm_op_copy(word + (n / 2 + 1) % 512,
				      word + (n / 2 - 1) % 512, 8);
	ASSERT_EQ(0, vsvm_run(&self->gpu, ops, n, NULL));
	EXPECT_EQ(2ULL, word[(n - 1) % 512]);
	free(ops);
}

/*
 * Failures.  "bad" is a page that cannot be accessed, between good ones.
 */

#define BAD_PAGE	5

static int run_bad(struct _test_data_exec *self, struct drm_vsvm_op bad_op,
		   struct drm_vsvm_job_status *status)
{
	char *mark = self->other;
	struct drm_vsvm_op ops[4];
	int ret;

	memset(mark, 0, self->page);
	ops[0] = vsvm_op_fill(mark, 8, 1);
	ops[1] = vsvm_op_fill(mark + 8, 8, 2);
	ops[2] = bad_op;
	ops[3] = vsvm_op_fill(mark + 16, 8, 3);
	ret = vsvm_run(&self->gpu, ops, 4, status);
	if (ret <= 0)
		return ret ? ret : -ENOMSG;

	/* Operations before it were executed, those after it were not. */
	if (*(uint64_t *)mark != 1 || *(uint64_t *)(mark + 8) != 2 ||
	    *(uint64_t *)(mark + 16))
		return -ESTALE;
	return status->op == 2 ? ret : -EBADMSG;
}

/* Each operation, with the bad page in each of its places. */
static void check_bad(struct __test_metadata *_metadata,
		      struct _test_data_exec *self, int err, bool reads_fail)
{
	char *good = self->mem, *bad = self->mem + BAD_PAGE * self->page;
	uint64_t addr = (uintptr_t)bad;
	struct drm_vsvm_job_status st;

#define EXPECT_BAD(op) do {						\
	EXPECT_EQ(err, run_bad(self, op, &st));				\
	EXPECT_EQ(addr, st.address);					\
} while (0)
	EXPECT_BAD(vsvm_op_fill(bad, 8, 1));
	EXPECT_BAD(vsvm_op_fill(bad - 16, 32, 1));
	EXPECT_BAD(vsvm_op_copy(bad, good, self->page));
	EXPECT_BAD(vsvm_op_copy(bad - 5, good, 17));
	EXPECT_BAD(vsvm_op_add(bad, 1, NULL));
	EXPECT_BAD(vsvm_op_add(good, 1, bad));
	EXPECT_BAD(vsvm_op_cas(bad, 0, 0, NULL));
	EXPECT_BAD(vsvm_op_cas(good, 1, 2, bad));
	EXPECT_BAD(vsvm_op_checksum(good, 8, bad));
	EXPECT_BAD(vsvm_op_walk(bad, 1, 0, 1, NULL));
	EXPECT_BAD(vsvm_op_walk(good, 1, bad - good, 1, NULL));
	EXPECT_BAD(vsvm_op_muladd(bad, good, good, 8));
	if (!reads_fail)
		return;
	EXPECT_BAD(vsvm_op_copy(good, bad, self->page));
	EXPECT_BAD(vsvm_op_copy(good, bad - 8, 16));
	EXPECT_BAD(vsvm_op_checksum(bad, 8, good));
	EXPECT_BAD(vsvm_op_checksum(bad - 8, 16, good));
	EXPECT_BAD(vsvm_op_muladd(good, bad, good, 8));
	EXPECT_BAD(vsvm_op_muladd(good, good, bad, 8));
#undef EXPECT_BAD
}

TEST_F_TIMEOUT(exec, bad_unmapped, TIMEOUT)
{
	char *bad = self->mem + BAD_PAGE * self->page;

	ASSERT_EQ(0, munmap(bad, self->page));
	check_bad(_metadata, self, EFAULT, true);
	/* The VM works as before. */
	EXPECT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem, self->page, 6));
	EXPECT_EQ(-1, vsvm_verify_value(self->mem, self->page, 6));
}

TEST_F_TIMEOUT(exec, bad_prot_none, TIMEOUT)
{
	char *bad = self->mem + BAD_PAGE * self->page;

	vsvm_fill(bad, self->page, 8);
	ASSERT_EQ(0, mprotect(bad, self->page, PROT_NONE));
	check_bad(_metadata, self, EACCES, true);
	ASSERT_EQ(0, mprotect(bad, self->page, PROT_READ | PROT_WRITE));
	EXPECT_EQ(-1, vsvm_verify(bad, self->page, 8));
	EXPECT_EQ(0, vsvm_gpu_fill(&self->gpu, bad, self->page, 6));
	EXPECT_EQ(-1, vsvm_verify_value(bad, self->page, 6));
}

TEST_F_TIMEOUT(exec, bad_read_only, TIMEOUT)
{
	char *bad = self->mem + BAD_PAGE * self->page;
	uint64_t sum;

	vsvm_fill(bad, self->page, 8);
	ASSERT_EQ(0, mprotect(bad, self->page, PROT_READ));
	check_bad(_metadata, self, EACCES, false);
	EXPECT_EQ(-1, vsvm_verify(bad, self->page, 8));
	ASSERT_EQ(0, vsvm_gpu_checksum(&self->gpu, bad, self->page, &sum));
	EXPECT_EQ(vsvm_checksum(bad, self->page), sum);
	ASSERT_EQ(0, mprotect(bad, self->page, PROT_READ | PROT_WRITE));
	EXPECT_EQ(0, vsvm_gpu_fill(&self->gpu, bad, self->page, 6));
	EXPECT_EQ(-1, vsvm_verify_value(bad, self->page, 6));
}

/* The part of an operation before its bad page stays done. */
TEST_F(exec, bad_middle)
{
	size_t good = BAD_PAGE * self->page;
	struct drm_vsvm_job_status st;
	struct drm_vsvm_op op;

	ASSERT_EQ(0, munmap(self->mem + good, self->page));
	op = vsvm_op_fill(self->mem, self->size, 9);
	ASSERT_EQ(EFAULT, vsvm_run(&self->gpu, &op, 1, &st));
	EXPECT_EQ(0, st.op);
	EXPECT_EQ((uintptr_t)self->mem + good, st.address);
	EXPECT_EQ(-1, vsvm_verify_value(self->mem, good, 9));
	EXPECT_EQ(-1, vsvm_verify_value(self->mem + good + self->page,
					self->size - good - self->page, 0));
}

/* A list with a pointer to unmapped memory, and one with an invalid address. */
TEST_F(exec, bad_pointer)
{
	struct node *first = make_list(self, 20), *node = first;
	struct drm_vsvm_job_status st;
	struct drm_vsvm_op op;
	int i;

	for (i = 0; i < 10; i++)
		node = node->next;
	node->next = (struct node *)self->page;
	op = vsvm_op_walk(first, 100, 8, 100, self->gpu.result);
	EXPECT_EQ(EFAULT, vsvm_run(&self->gpu, &op, 1, &st));
	EXPECT_EQ(self->page, st.address);
	node->next = (struct node *)(self->mem + 1);
	EXPECT_LT(0, vsvm_run(&self->gpu, &op, 1, &st));
	node->next = (struct node *)-8L;
	EXPECT_LT(0, vsvm_run(&self->gpu, &op, 1, &st));
	node->next = NULL;
	EXPECT_EQ(0, vsvm_run(&self->gpu, &op, 1, &st));
	/* Changed four times. */
	EXPECT_EQ(400ULL, first->value);
}

TEST_F(exec, kernel_addresses)
{
	struct drm_vsvm_job_status st;
	struct drm_vsvm_op op;

	op = vsvm_op_fill(NULL, 8, 1);
	EXPECT_EQ(EFAULT, vsvm_run(&self->gpu, &op, 1, &st));
	EXPECT_EQ(0, st.address);
	op = vsvm_op_fill((void *)0xffff888000000000, 8, 1);
	EXPECT_EQ(-EINVAL, vsvm_run(&self->gpu, &op, 1, &st));
}

/* The VM remembers the last 64 failures, and that the others were none. */
TEST_F_TIMEOUT(exec, failures_remembered, TIMEOUT)
{
	struct drm_vsvm_op good = vsvm_op_fill(self->mem, 8, 1);
	struct drm_vsvm_op bad = vsvm_op_fill(NULL, 8, 1);
	struct drm_vsvm_job_status st;
	uint64_t job, failed[64];
	int i;

	for (i = 0; i < 128; i++) {
		ASSERT_EQ(i & 1 ? EFAULT : 0,
			  vsvm_run(&self->gpu, i & 1 ? &bad : &good, 1, &st));
		if (i & 1)
			failed[i / 2] = st.job;
	}
	for (i = 0; i < 64; i++) {
		ASSERT_EQ(0, vsvm_job_status(&self->gpu, failed[i], &st));
		EXPECT_EQ(EFAULT, st.error);
		job = failed[i] - 1;
		ASSERT_EQ(0, vsvm_job_status(&self->gpu, job, &st));
		EXPECT_EQ(0, st.error);
		EXPECT_EQ(0, st.address);
	}
}

/*
 * Fences.
 */

TEST_F(exec, binary_syncobj)
{
	struct drm_vsvm_op op = vsvm_op_fill(self->mem, self->size, 1);
	struct drm_vsvm_sync sync[2] = {};
	uint64_t *word = (uint64_t *)self->mem;
	int i;

	ASSERT_EQ(0, vsvm_syncobj_create(self->gpu.fd, &sync[0].handle));
	sync[0].flags = DRM_VSVM_SYNC_SIGNAL;
	ASSERT_EQ(0, vsvm_exec(&self->gpu, &op, 1, sync, 1, NULL));
	/* In and out with the same syncobj. */
	sync[1] = sync[0];
	sync[0].flags = 0;
	op = vsvm_op_add(word, 1, NULL);
	for (i = 0; i < 10; i++)
		ASSERT_EQ(0, vsvm_exec(&self->gpu, &op, 1, sync, 2, NULL));
	ASSERT_EQ(0, vsvm_syncobj_wait(self->gpu.fd, sync[0].handle, 0,
				       VSVM_WAIT_MS));
	EXPECT_EQ(11ULL, word[0]);
	EXPECT_EQ(1, vsvm_syncobj_status(self->gpu.fd, sync[0].handle, 0));
	EXPECT_EQ(-1, vsvm_verify_value(word + 1, self->size - 8, 1));
}

TEST_F(exec, timeline_syncobj)
{
	struct drm_vsvm_sync sync[2] = {};
	uint64_t *word = (uint64_t *)self->mem;
	struct drm_vsvm_op op;
	uint64_t point;

	ASSERT_EQ(0, vsvm_syncobj_create(self->gpu.fd, &sync[0].handle));
	sync[1].handle = sync[0].handle;
	sync[1].flags = DRM_VSVM_SYNC_SIGNAL;
	for (point = 1; point <= 10; point++) {
		op = vsvm_op_fill(word + point, 8, point);
		sync[0].timeline_value = point - 1;
		sync[1].timeline_value = point;
		/* The first has nothing to wait for. */
		ASSERT_EQ(0, vsvm_exec(&self->gpu, &op, 1,
				       point > 1 ? sync : sync + 1,
				       point > 1 ? 2 : 1, NULL));
	}
	for (point = 1; point <= 10; point++) {
		ASSERT_EQ(0, vsvm_syncobj_wait(self->gpu.fd, sync[0].handle,
					       point, VSVM_WAIT_MS));
		EXPECT_EQ(point, word[point]);
	}
	EXPECT_EQ(-ETIME, vsvm_syncobj_wait(self->gpu.fd, sync[0].handle, 11,
					    20));
	sync[0].timeline_value = 11;
	EXPECT_EQ(-EINVAL, vsvm_exec(&self->gpu, &op, 1, sync, 1, NULL));
}

TEST_F(exec, many_syncobjs)
{
	uint32_t i, n = self->gpu.query.max_syncs;
	struct drm_vsvm_op op = vsvm_op_fill(self->mem, 8, 1);
	struct drm_vsvm_sync *sync;

	sync = calloc(n, sizeof(*sync));
	ASSERT_NE(NULL, sync);
	for (i = 0; i < n; i++) {
		ASSERT_EQ(0, vsvm_syncobj_create(self->gpu.fd, &sync[i].handle));
		sync[i].flags = DRM_VSVM_SYNC_SIGNAL;
	}
	ASSERT_EQ(0, vsvm_exec(&self->gpu, &op, 1, sync, n, NULL));
	for (i = 0; i < n; i++)
		sync[i].flags = 0;
	ASSERT_EQ(0, vsvm_exec(&self->gpu, &op, 1, sync, n, NULL));
	for (i = 0; i < n; i++) {
		EXPECT_EQ(0, vsvm_syncobj_wait(self->gpu.fd, sync[i].handle, 0,
					       VSVM_WAIT_MS));
		vsvm_syncobj_destroy(self->gpu.fd, sync[i].handle);
	}
	free(sync);
}

/* The error of a job is in its fence, for every holder of it. */
TEST_F(exec, fence_error)
{
	struct drm_vsvm_op op = vsvm_op_fill(NULL, 8, 1);
	struct drm_vsvm_sync sync = { .flags = DRM_VSVM_SYNC_SIGNAL };

	ASSERT_EQ(0, vsvm_syncobj_create(self->gpu.fd, &sync.handle));
	ASSERT_EQ(0, vsvm_exec(&self->gpu, &op, 1, &sync, 1, NULL));
	ASSERT_EQ(0, vsvm_syncobj_wait(self->gpu.fd, sync.handle, 0,
				       VSVM_WAIT_MS));
	EXPECT_EQ(-EFAULT, vsvm_syncobj_status(self->gpu.fd, sync.handle, 0));

	/* One that waits for a failed job is executed all the same. */
	op = vsvm_op_fill(self->mem, 8, 77);
	sync.flags = 0;
	ASSERT_EQ(0, vsvm_exec(&self->gpu, &op, 1, &sync, 1, NULL));
	ASSERT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem + 8, 8, 78));
	EXPECT_EQ(77ULL, *(uint64_t *)self->mem);
}

/* A job that can be held back, and jobs that wait behind it. */
struct held {
	int timeline;
	uint32_t in;
};

static int hold(struct _test_data_exec *self, struct held *held)
{
	int ret;

	held->timeline = vsvm_sw_sync_open();
	if (held->timeline < 0)
		return held->timeline;
	ret = vsvm_syncobj_create(self->gpu.fd, &held->in);
	if (ret)
		return ret;
	return vsvm_sw_sync_import(held->timeline, 1, self->gpu.fd, held->in);
}

static int exec_held(struct _test_data_exec *self, struct held *held,
		     struct drm_vsvm_op op, uint32_t out, uint64_t *job)
{
	struct drm_vsvm_sync sync[2] = {
		{ .handle = held->in },
		{ .handle = out, .flags = DRM_VSVM_SYNC_SIGNAL },
	};

	return vsvm_exec(&self->gpu, &op, 1, sync, 2, job);
}

TEST_F(exec, held_job)
{
	uint64_t *word = (uint64_t *)self->mem, first, second;
	struct drm_vsvm_op op = vsvm_op_add(word, 1, NULL);
	struct drm_vsvm_job_status st;
	struct held held;
	uint32_t out;

	ASSERT_EQ(0, hold(self, &held));
	ASSERT_EQ(0, vsvm_syncobj_create(self->gpu.fd, &out));
	ASSERT_EQ(0, exec_held(self, &held, vsvm_op_fill(word, 8, 10), out,
			       &first));
	/* In order: the second, which waits for nothing, waits too. */
	ASSERT_EQ(0, vsvm_exec(&self->gpu, &op, 1, NULL, 0, &second));
	EXPECT_EQ(first + 1, second);

	EXPECT_EQ(-ETIME, vsvm_syncobj_wait(self->gpu.fd, out, 0, 100));
	EXPECT_EQ(0, vsvm_syncobj_status(self->gpu.fd, out, 0));
	EXPECT_EQ(-EBUSY, vsvm_job_status(&self->gpu, first, &st));
	EXPECT_EQ(-EBUSY, vsvm_job_status(&self->gpu, second, &st));
	EXPECT_EQ(0ULL, word[0]);

	ASSERT_EQ(0, vsvm_sw_sync_signal(held.timeline, 1));
	ASSERT_EQ(0, vsvm_syncobj_wait(self->gpu.fd, out, 0, VSVM_WAIT_MS));
	ASSERT_EQ(0, vsvm_gpu_fill(&self->gpu, word + 1, 8, 0));
	EXPECT_EQ(0, vsvm_job_status(&self->gpu, first, &st));
	EXPECT_EQ(0, st.error);
	EXPECT_EQ(0, vsvm_job_status(&self->gpu, second, &st));
	EXPECT_EQ(0, st.error);
	EXPECT_EQ(11ULL, word[0]);
}

TEST_F_TIMEOUT(exec, max_jobs, TIMEOUT)
{
	uint32_t i, n = self->gpu.query.max_jobs, out;
	uint64_t *word = (uint64_t *)self->mem, job;
	struct drm_vsvm_op op = vsvm_op_add(word, 1, NULL);
	struct drm_vsvm_stats stats;
	struct held held;

	ASSERT_EQ(0, hold(self, &held));
	ASSERT_EQ(0, vsvm_syncobj_create(self->gpu.fd, &out));
	ASSERT_EQ(0, exec_held(self, &held, op, out, &job));
	for (i = 1; i < n; i++)
		ASSERT_EQ(0, vsvm_exec(&self->gpu, &op, 1, NULL, 0, NULL));
	EXPECT_EQ(-EBUSY, vsvm_exec(&self->gpu, &op, 1, NULL, 0, NULL));
	EXPECT_EQ(-EBUSY, exec_held(self, &held, op, out, NULL));

	ASSERT_EQ(0, vsvm_sw_sync_signal(held.timeline, 1));
	ASSERT_EQ(0, vsvm_syncobj_wait(self->gpu.fd, out, 0, VSVM_WAIT_MS));
	/* There is room for exactly one more now. */
	ASSERT_EQ(0, vsvm_gpu_fill(&self->gpu, word + 1, 8, 5));
	EXPECT_EQ((uint64_t)n, word[0]);
	EXPECT_EQ(5ULL, word[1]);
	ASSERT_EQ(0, vsvm_stats(self->gpu.fd, &stats));
	EXPECT_EQ(self->gpu.stats.jobs + n + 1, stats.jobs);
}

TEST_F(exec, destroy_cancels)
{
	uint64_t *word = (uint64_t *)self->mem, job;
	struct drm_vsvm_job_status st;
	struct held held;
	uint32_t out;

	ASSERT_EQ(0, hold(self, &held));
	ASSERT_EQ(0, vsvm_syncobj_create(self->gpu.fd, &out));
	ASSERT_EQ(0, exec_held(self, &held, vsvm_op_fill(word, 8, 1), out,
			       &job));
	ASSERT_EQ(0, vsvm_vm_destroy(self->gpu.fd, self->gpu.vm));
	EXPECT_EQ(-ENOENT, vsvm_job_status(&self->gpu, job, &st));
	EXPECT_EQ(0, vsvm_syncobj_wait(self->gpu.fd, out, 0, VSVM_WAIT_MS));
	EXPECT_EQ(-ECANCELED, vsvm_syncobj_status(self->gpu.fd, out, 0));
	ASSERT_EQ(0, vsvm_sw_sync_signal(held.timeline, 1));

	ASSERT_EQ(0, vsvm_vm_create(self->gpu.fd, &self->gpu.vm));
	ASSERT_EQ(0, vsvm_gpu_fill(&self->gpu, word + 1, 8, 2));
	EXPECT_EQ(0ULL, word[0]);
	EXPECT_EQ(2ULL, word[1]);
}

/* The process ends while its job is queued; the file is still open here. */
TEST_F(exec, exit_cancels)
{
	struct held held;
	uint64_t job;
	uint32_t out;
	pid_t pid;

	ASSERT_EQ(0, hold(self, &held));
	ASSERT_EQ(0, vsvm_syncobj_create(self->gpu.fd, &out));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		if (vsvm_vm_create(self->gpu.fd, &self->gpu.vm))
			_exit(1);
		_exit(exec_held(self, &held, vsvm_op_fill(self->mem, 8, 1), out,
				&job) ? 2 : 0);
	}
	EXPECT_EQ(0, vsvm_wait_child(pid));
	ASSERT_EQ(0, vsvm_sw_sync_signal(held.timeline, 1));
	EXPECT_EQ(0, vsvm_syncobj_wait(self->gpu.fd, out, 0, VSVM_WAIT_MS));
	/* Its memory is gone: an error of some kind, but no effect here. */
	EXPECT_GT(0, vsvm_syncobj_status(self->gpu.fd, out, 0));
	EXPECT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem + 8, 8, 2));
	EXPECT_EQ(0ULL, *(uint64_t *)self->mem);
}

/* Two VMs hand a counter to and fro; nothing but the fences orders them. */
TEST_F(exec, two_vms)
{
	struct vsvm_gpu gpu[2] = { self->gpu, self->gpu };
	uint64_t *word = (uint64_t *)self->mem;
	struct drm_vsvm_sync sync[2] = {};
	struct drm_vsvm_op ops[2];
	uint64_t expect = 1;
	int i;

	ASSERT_EQ(0, vsvm_vm_create(gpu[1].fd, &gpu[1].vm));
	ASSERT_EQ(0, vsvm_syncobj_create(gpu[0].fd, &sync[0].handle));
	sync[1].handle = sync[0].handle;
	sync[1].flags = DRM_VSVM_SYNC_SIGNAL;
	for (i = 0; i < 40; i++) {
		sync[0].timeline_value = i;
		sync[1].timeline_value = i + 1;
		/* 1, then 2 * (n - 1) + 1 each time: not commutative. */
		ops[0] = vsvm_op_muladd(word, word, word + 1, 8);
		ops[1] = vsvm_op_add(word, i & 1 ? 3 : 1, NULL);
		if (!i)
			ops[0] = vsvm_op_fill(word + 1, 8, 1);
		ASSERT_EQ(0, vsvm_exec(&gpu[i & 1], ops, 2, i ? sync : sync + 1,
				       i ? 2 : 1, NULL));
	}
	ASSERT_EQ(0, vsvm_syncobj_wait(gpu[0].fd, sync[0].handle, 40,
				       VSVM_WAIT_MS));
	for (i = 1; i < 40; i++)
		expect = 2 * expect + (i & 1 ? 3 : 1);
	EXPECT_EQ(expect, word[0]);
}

/* A job of one VM that waits does not keep that of another from running. */
TEST_F(exec, side_by_side)
{
	struct vsvm_gpu other = self->gpu;
	struct held held;
	uint64_t job;
	uint32_t out;

	ASSERT_EQ(0, vsvm_vm_create(other.fd, &other.vm));
	ASSERT_EQ(0, hold(self, &held));
	ASSERT_EQ(0, vsvm_syncobj_create(self->gpu.fd, &out));
	ASSERT_EQ(0, exec_held(self, &held, vsvm_op_fill(self->mem, 8, 1), out,
			       &job));
	EXPECT_EQ(0, vsvm_gpu_fill(&other, self->other, self->size, 2));
	EXPECT_EQ(-1, vsvm_verify_value(self->other, self->size, 2));
	EXPECT_EQ(0, vsvm_syncobj_status(self->gpu.fd, out, 0));
	ASSERT_EQ(0, vsvm_sw_sync_signal(held.timeline, 1));
	EXPECT_EQ(0, vsvm_syncobj_wait(self->gpu.fd, out, 0, VSVM_WAIT_MS));
	EXPECT_EQ(1ULL, *(uint64_t *)self->mem);
}

TEST_F(exec, counters)
{
	struct drm_vsvm_stats before, after;

	ASSERT_EQ(0, vsvm_stats(self->gpu.fd, &before));
	ASSERT_EQ(0, vsvm_prefetch(&self->gpu, self->mem, self->size,
				   DRM_VSVM_PLACE_SYSTEM));
	ASSERT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem, self->size, 1));
	ASSERT_EQ(EFAULT, vsvm_gpu_fill(&self->gpu, NULL, 8, 1));
	ASSERT_EQ(0, vsvm_stats(self->gpu.fd, &after));
	EXPECT_EQ(before.jobs + 2, after.jobs);
	EXPECT_LT(before.gpu_faults, after.gpu_faults);
	EXPECT_EQ(before.evictions, after.evictions);

	/* All is mapped: no more faults. */
	before = after;
	ASSERT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem, self->size, 2));
	ASSERT_EQ(0, vsvm_stats(self->gpu.fd, &after));
	EXPECT_EQ(before.gpu_faults, after.gpu_faults);
	EXPECT_EQ(before.jobs + 1, after.jobs);
}

/*
 * Memory that the device writes to in place becomes dirty, as if a CPU had
 * written to it: reclaim must not drop it although the process called MADV_FREE
 * before.
 */
TEST_F(exec, free_then_write_in_place)
{
	vsvm_fill(self->mem, self->size, 3);
	ASSERT_EQ(0, vsvm_advise(&self->gpu, self->mem, self->size,
				 DRM_VSVM_ADVICE_SYSTEM));
	/* Takes it off a list of the CPU, where it would not be freed. */
	ASSERT_EQ(0, madvise(self->mem, self->size, MADV_COLD));
	ASSERT_EQ(0, madvise(self->mem, self->size, MADV_FREE));
	ASSERT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem, self->size, 8));
	ASSERT_EQ(0, madvise(self->mem, self->size, MADV_PAGEOUT));
	EXPECT_EQ(-1, vsvm_verify_value(self->mem, self->size, 8));
}

/*
 * Jobs that do not end by themselves: a list that is a circle.
 */

#define ENDLESS		270	/* more than a workqueue executes at a time */
#define ENDLESS_FILES	8
#define PATIENCE_MS	60000	/* on a busy emulated machine */
#define JOB_MS		"/sys/module/vsvm/parameters/job_ms"

FIXTURE(endless)
{
	struct vsvm_gpu gpu;
	char *mem;
	size_t size;
	/* Files with endless jobs. */
	int files[ENDLESS_FILES];
	int num_files;
};

FIXTURE_SETUP(endless)
{
	uint64_t *node;

	ASSERT_EQ(0, vsvm_gpu_open(&self->gpu, 0));
	self->size = 1024 * 1024;
	self->mem = vsvm_alloc(self->size, self->size);
	ASSERT_NE(NULL, self->mem);
	vsvm_fill(self->mem, self->size, 1);
	node = (uint64_t *)self->mem;
	node[0] = (uintptr_t)node;
	node[1] = 5;
}

FIXTURE_TEARDOWN(endless)
{
	while (self->num_files)
		close(self->files[--self->num_files]);
	munmap(self->mem, self->size);
	vsvm_gpu_close(&self->gpu);
}

static struct drm_vsvm_op endless_op(struct _test_data_endless *self)
{
	return vsvm_op_walk(self->mem, UINT64_MAX, 8, 0, NULL);
}

/* Endless jobs, in as many VMs. */
static int exec_endless(struct _test_data_endless *self, int num)
{
	struct drm_vsvm_op op = endless_op(self);
	struct vsvm_gpu gpu = self->gpu;
	int i, ret;

	for (i = 0; i < num; i++) {
		if (i % self->gpu.query.max_vms == 0) {
			gpu.fd = vsvm_open(0);
			if (gpu.fd < 0)
				return gpu.fd;
			self->files[self->num_files++] = gpu.fd;
		}
		ret = vsvm_vm_create(gpu.fd, &gpu.vm);
		if (!ret)
			ret = vsvm_exec(&gpu, &op, 1, NULL, 0, NULL);
		if (ret)
			return ret;
	}
	return 0;
}

/* The life of another process: open, have a job executed, close. */
static int short_life(unsigned int device, uid_t uid)
{
	struct vsvm_gpu gpu;
	uint64_t *mem;

	mem = vsvm_alloc(getpagesize(), getpagesize());
	if (!mem || setresuid(uid, -1, -1))
		return 1;
	if (vsvm_gpu_open(&gpu, device))
		return 2;
	if (vsvm_gpu_fill(&gpu, mem, 8, 7) || *mem != 7)
		return 3;
	vsvm_gpu_close(&gpu);
	return 0;
}

/* 0 if it ends well, and in time; it must not be waited for otherwise. */
static int try_short_life(unsigned int device, uid_t uid)
{
	double began = vsvm_now_ms();
	int status;
	pid_t pid;

	pid = fork();
	if (!pid)
		_exit(short_life(device, uid));
	while (waitpid(pid, &status, WNOHANG) == 0) {
		if (vsvm_now_ms() > began + PATIENCE_MS)
			return -ETIME;
		usleep(10000);
	}
	return status;
}

static bool have_second_device(void)
{
	int fd = vsvm_open(1);

	close(fd);
	return fd >= 0;
}

/* Any number of them: no other user has to wait, on any device. */
TEST_F_TIMEOUT(endless, others_live, 2 * TIMEOUT)
{
	double began;

	ASSERT_EQ(0, exec_endless(self, ENDLESS));
	EXPECT_EQ(0, try_short_life(0, 1000));
	EXPECT_EQ(0, try_short_life(0, getuid()));
	if (have_second_device()) {
		EXPECT_EQ(0, try_short_life(1, 1000));
		EXPECT_EQ(0, try_short_life(1, getuid()));
	}

	began = vsvm_now_ms();
	while (self->num_files)
		close(self->files[--self->num_files]);
	EXPECT_GT(PATIENCE_MS, vsvm_now_ms() - began);
}

/* Whether a worker of that user executes something now. */
static bool worker_is_busy(uid_t uid)
{
	char name[64], path[300], line[64];
	struct dirent *entry;
	bool busy = false;
	ssize_t n;
	DIR *dir;
	int fd;

	snprintf(name, sizeof(name), "+vsvm-%u\n", uid);
	dir = opendir("/proc");
	while (dir && !busy && (entry = readdir(dir))) {
		snprintf(path, sizeof(path), "/proc/%s/comm", entry->d_name);
		fd = open(path, O_RDONLY);
		if (fd < 0)
			continue;
		n = read(fd, line, sizeof(line) - 1);
		close(fd);
		line[n < 0 ? 0 : n] = 0;
		busy = strstr(line, name);
	}
	if (dir)
		closedir(dir);
	return busy;
}

static bool worker_gets_busy(uid_t uid)
{
	double end = vsvm_now_ms() + PATIENCE_MS;

	while (!worker_is_busy(uid)) {
		if (vsvm_now_ms() > end)
			return false;
		usleep(1000);
	}
	return true;
}

/* Users of an inherited file have workers of their own all the same. */
static int use_inherited_file(struct _test_data_endless *self, uid_t uid)
{
	struct drm_vsvm_op op = endless_op(self);
	struct vsvm_gpu gpu = self->gpu;

	if (setresuid(uid, uid, uid) || vsvm_vm_create(gpu.fd, &gpu.vm) ||
	    vsvm_exec(&gpu, &op, 1, NULL, 0, NULL))
		return 1;
	pause();
	return 2;
}

TEST_F_TIMEOUT(endless, inherited_file, TIMEOUT)
{
	int status;
	pid_t pid;

	if (getuid())
		SKIP(return, "needs the right to become others");
	EXPECT_FALSE(worker_is_busy(1000));
	pid = fork();
	if (!pid)
		_exit(use_inherited_file(self, 1000));
	EXPECT_TRUE(worker_gets_busy(1000));
	EXPECT_FALSE(worker_is_busy(0));
	EXPECT_EQ(0, kill(pid, SIGKILL));
	EXPECT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status));
}

/* Become a user ID of a user namespace that @uid has made, and have a job. */
static int use_user_namespace(struct _test_data_endless *self, uid_t uid,
			      int ready, int mapped)
{
	struct drm_vsvm_op op = endless_op(self);
	struct vsvm_gpu gpu = self->gpu;
	char c;

	if (setresuid(uid, uid, uid))
		return 1;
	c = unshare(CLONE_NEWUSER) ? 'n' : 'y';
	if (write(ready, &c, 1) != 1 || c == 'n' || read(mapped, &c, 1) != 1)
		return 2;
	if (setresuid(1, 1, 1) || vsvm_vm_create(gpu.fd, &gpu.vm) ||
	    vsvm_exec(&gpu, &op, 1, NULL, 0, NULL))
		return 3;
	pause();
	return 4;
}

/* The user IDs in a namespace are no more users than the one who made it. */
TEST_F_TIMEOUT(endless, user_namespace, TIMEOUT)
{
	int ready[2], mapped[2], status;
	char path[64], c;
	pid_t pid;

	if (getuid())
		SKIP(return, "needs the right to become others");
	ASSERT_EQ(0, pipe(ready));
	ASSERT_EQ(0, pipe(mapped));
	pid = fork();
	if (!pid)
		_exit(use_user_namespace(self, 1000, ready[1], mapped[0]));
	ASSERT_EQ(1, read(ready[0], &c, 1));
	if (c == 'n')
		SKIP(return, "no user namespaces");
	snprintf(path, sizeof(path), "/proc/%d/uid_map", pid);
	EXPECT_EQ(0, vsvm_write_file(path, "0 2000 10\n"));
	EXPECT_EQ(1, write(mapped[1], "", 1));
	EXPECT_TRUE(worker_gets_busy(1000));
	EXPECT_FALSE(worker_is_busy(2001));
	EXPECT_EQ(0, kill(pid, SIGKILL));
	EXPECT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status));
}

/* The jobs of one user take turns; none has to end for another to begin. */
TEST_F_TIMEOUT(endless, take_turns, TIMEOUT)
{
	uint64_t *word = (uint64_t *)(self->mem + self->size / 2);
	int i;

	ASSERT_EQ(0, exec_endless(self, self->gpu.query.max_vms));
	for (i = 1; i < 4; i++) {
		ASSERT_EQ(0, vsvm_gpu_fill(&self->gpu, word, 8, i));
		EXPECT_EQ((uint64_t)i, *word);
	}
}

/* Operations that are interrupted again and again have the same results. */
TEST_F_TIMEOUT(endless, operations_resume, TIMEOUT)
{
	size_t size = 8 * 1024 * 1024, i, n = size / sizeof(uint64_t);
	uint64_t *src, *dst, scalar = 3, sum, nodes, bad = 0;

	src = vsvm_alloc(size, size);
	dst = vsvm_alloc(size, size);
	ASSERT_NE(NULL, src);
	ASSERT_NE(NULL, dst);
	vsvm_fill(src, size, 2);
	/* Slow, and without migration: the memory stays where it is. */
	ASSERT_EQ(0, vsvm_advise(&self->gpu, src, size, DRM_VSVM_ADVICE_SYSTEM));
	ASSERT_EQ(0, vsvm_advise(&self->gpu, dst, size, DRM_VSVM_ADVICE_SYSTEM));
	ASSERT_EQ(0, exec_endless(self, 8));

	ASSERT_EQ(0, vsvm_gpu_checksum(&self->gpu, src, size, &sum));
	EXPECT_EQ(vsvm_checksum(src, size), sum);
	ASSERT_EQ(0, vsvm_gpu_fill(&self->gpu, dst, size, 9));
	EXPECT_EQ(-1, vsvm_verify_value(dst, size, 9));
	ASSERT_EQ(0, vsvm_gpu_muladd(&self->gpu, dst, src, &scalar, size));
	for (i = 0; i < n; i++)
		bad += dst[i] != 9 + 3 * src[i];
	EXPECT_EQ(0, bad);
	ASSERT_EQ(0, vsvm_gpu_copy(&self->gpu, dst, src, size));
	EXPECT_EQ(-1, vsvm_verify(dst, size, 2));

	dst[0] = (uintptr_t)dst;
	dst[1] = 0;
	ASSERT_EQ(0, vsvm_gpu_walk(&self->gpu, dst, 100000, 8, 1, &nodes, &sum));
	EXPECT_EQ(100000ULL, nodes);
	EXPECT_EQ(100000ULL, dst[1]);
	EXPECT_EQ(99999ULL * 100000 / 2, sum);
	munmap(src, size);
	munmap(dst, size);
}

static int set_job_ms(unsigned int ms)
{
	char text[16];

	snprintf(text, sizeof(text), "%u", ms);
	return vsvm_write_file(JOB_MS, text);
}

/* The fence of a job is signalled in finite time, whatever it executes. */
TEST_F_TIMEOUT(endless, has_an_end, TIMEOUT)
{
	struct drm_vsvm_sync sync = { .flags = DRM_VSVM_SYNC_SIGNAL };
	struct drm_vsvm_job_status status;
	struct drm_vsvm_query query;
	struct drm_vsvm_op ops[3];
	uint64_t *mark = (uint64_t *)(self->mem + self->size) - 2, job;
	double began;

	if (set_job_ms(1000))
		SKIP(return, "needs the right to change the time limit");
	ops[0] = vsvm_op_fill(mark, 8, 1);
	ops[1] = endless_op(self);
	ops[2] = vsvm_op_fill(mark + 1, 8, 2);
	mark[1] = 3;
	EXPECT_EQ(0, vsvm_query(self->gpu.fd, &query));
	EXPECT_EQ(1000, query.max_job_ms);

	EXPECT_EQ(0, vsvm_syncobj_create(self->gpu.fd, &sync.handle));
	began = vsvm_now_ms();
	EXPECT_EQ(0, vsvm_exec(&self->gpu, ops, 3, &sync, 1, &job));
	EXPECT_EQ(0, vsvm_syncobj_wait(self->gpu.fd, sync.handle, 0,
				       PATIENCE_MS));
	EXPECT_LE(999, vsvm_now_ms() - began);
	EXPECT_EQ(-ETIME, vsvm_syncobj_status(self->gpu.fd, sync.handle, 0));
	EXPECT_EQ(0, vsvm_job_status(&self->gpu, job, &status));
	EXPECT_EQ(ETIME, status.error);
	EXPECT_EQ(1, status.op);
	EXPECT_EQ(0, status.address);

	/* Finished operations stay done, no others are, and the VM goes on. */
	EXPECT_EQ(1ULL, mark[0]);
	EXPECT_EQ(3ULL, mark[1]);
	EXPECT_EQ(0, vsvm_gpu_fill(&self->gpu, mark + 1, 8, 4));
	EXPECT_EQ(4ULL, mark[1]);
	EXPECT_EQ(0, set_job_ms(self->gpu.query.max_job_ms));
}

/* Time spent waiting for a fence is not the job's. */
TEST_F_TIMEOUT(endless, waiting_is_free, TIMEOUT)
{
	struct drm_vsvm_op op = vsvm_op_fill(self->mem, 8, 1);
	struct drm_vsvm_sync sync = {};
	struct drm_vsvm_job_status status;
	int timeline = vsvm_sw_sync_open();
	uint64_t job;

	if (timeline < 0 || set_job_ms(200))
		SKIP(return, "needs sw_sync, and the right to change the limit");
	EXPECT_EQ(0, vsvm_syncobj_create(self->gpu.fd, &sync.handle));
	EXPECT_EQ(0, vsvm_sw_sync_import(timeline, 1, self->gpu.fd,
					 sync.handle));
	EXPECT_EQ(0, vsvm_exec(&self->gpu, &op, 1, &sync, 1, &job));
	usleep(600 * 1000);
	EXPECT_EQ(-EBUSY, vsvm_job_status(&self->gpu, job, &status));
	EXPECT_EQ(0, vsvm_sw_sync_signal(timeline, 1));
	EXPECT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem + 8, 8, 2));
	EXPECT_EQ(0, vsvm_job_status(&self->gpu, job, &status));
	EXPECT_EQ(0, status.error);
	EXPECT_EQ(0, set_job_ms(self->gpu.query.max_job_ms));
}

TEST_F_TIMEOUT(endless, unbind_ends_them, 2 * TIMEOUT)
{
	struct drm_vsvm_sync sync = { .flags = DRM_VSVM_SYNC_SIGNAL };
	struct drm_vsvm_op op = endless_op(self);
	double began;
	int file;

	ASSERT_EQ(0, vsvm_syncobj_create(self->gpu.fd, &sync.handle));
	ASSERT_EQ(0, vsvm_exec(&self->gpu, &op, 1, &sync, 1, NULL));
	file = vsvm_syncobj_export(self->gpu.fd, sync.handle, 0);
	ASSERT_LE(0, file);
	ASSERT_EQ(0, exec_endless(self, ENDLESS));

	began = vsvm_now_ms();
	ASSERT_EQ(0, vsvm_bind(0, false));
	EXPECT_GT(PATIENCE_MS, vsvm_now_ms() - began);
	EXPECT_EQ(-ENODEV, vsvm_sync_file_wait(file, 1000));
	EXPECT_EQ(-1, vsvm_verify_value(self->mem + 8, 8, 5));
	ASSERT_EQ(0, vsvm_bind(0, true));
	EXPECT_EQ(0, try_short_life(0, getuid()));
	close(file);
}

/* Closing, destroying and unbinding at the same time, while jobs are executed. */
static void *close_files(void *arg)
{
	struct _test_data_endless *self = arg;

	while (self->num_files)
		close(self->files[--self->num_files]);
	return NULL;
}

TEST_F_TIMEOUT(endless, unbind_while_closing, 2 * TIMEOUT)
{
	pthread_t thread;
	int i;

	for (i = 0; i < 5; i++) {
		ASSERT_EQ(0, exec_endless(self, 2 * self->gpu.query.max_vms));
		ASSERT_EQ(0, pthread_create(&thread, NULL, close_files, self));
		usleep(i * 1000);
		EXPECT_EQ(0, vsvm_bind(0, false));
		ASSERT_EQ(0, pthread_join(thread, NULL));
		ASSERT_EQ(0, vsvm_bind(0, true));
	}
	EXPECT_EQ(0, try_short_life(0, getuid()));
}

/* One of two that destroy a VM does it, and both return when its job has ended. */
static void *destroy_vm(void *arg)
{
	struct vsvm_gpu *gpu = arg;

	return (void *)(long)vsvm_vm_destroy(gpu->fd, gpu->vm);
}

TEST_F_TIMEOUT(endless, destroyed_twice, TIMEOUT)
{
	struct drm_vsvm_sync sync = { .flags = DRM_VSVM_SYNC_SIGNAL };
	struct drm_vsvm_op op = endless_op(self);
	struct vsvm_gpu gpu = self->gpu;
	pthread_t thread;
	void *result;
	int i, ret;

	ASSERT_EQ(0, vsvm_syncobj_create(gpu.fd, &sync.handle));
	for (i = 0; i < 50; i++) {
		ASSERT_EQ(0, vsvm_vm_create(gpu.fd, &gpu.vm));
		ASSERT_EQ(0, vsvm_exec(&gpu, &op, 1, &sync, 1, NULL));
		ASSERT_EQ(0, pthread_create(&thread, NULL, destroy_vm, &gpu));
		/* Into a VM that is going, or gone. */
		do {
			ret = vsvm_exec(&gpu, &op, 1, NULL, 0, NULL);
		} while (!ret || ret == -EBUSY);
		EXPECT_EQ(-ENOENT, ret);
		EXPECT_EQ(-ENOENT, vsvm_vm_destroy(gpu.fd, gpu.vm));
		ASSERT_EQ(0, pthread_join(thread, &result));
		EXPECT_EQ(NULL, result);
		EXPECT_EQ(0, vsvm_syncobj_wait(gpu.fd, sync.handle, 0,
					       PATIENCE_MS));
		EXPECT_EQ(-ECANCELED,
			  vsvm_syncobj_status(gpu.fd, sync.handle, 0));
	}
}

/*
 * Limits of the memory that a file can make the kernel allocate.
 */

/* Jobs of @n operations each, behind an endless one, until there is an error. */
static int exec_until_error(struct vsvm_gpu *gpu, struct drm_vsvm_op *ops,
			    uint32_t n, uint32_t *queued)
{
	int ret;

	do {
		ret = vsvm_exec(gpu, ops, n, NULL, 0, NULL);
		if (!ret)
			*queued += n;
	} while (!ret);
	return ret;
}

TEST_F_TIMEOUT(endless, max_queued_ops, TIMEOUT)
{
	uint32_t i, n = self->gpu.query.max_ops, queued = 0;
	struct vsvm_gpu second = self->gpu, other = self->gpu;
	struct drm_vsvm_op *ops;

	ops = calloc(n, sizeof(*ops));
	ASSERT_NE(NULL, ops);
	for (i = 0; i < n; i++)
		ops[i] = endless_op(self);

	/* A limit of the file, not of the VM. */
	EXPECT_EQ(-EBUSY, exec_until_error(&self->gpu, ops, n, &queued));
	EXPECT_EQ(self->gpu.query.max_queued_ops / n * n, queued);
	ASSERT_EQ(0, vsvm_vm_create(second.fd, &second.vm));
	EXPECT_EQ(-EBUSY, exec_until_error(&second, ops, n, &queued));
	EXPECT_EQ(self->gpu.query.max_queued_ops / n * n, queued);

	/* Other files are not affected. */
	other.fd = vsvm_open(0);
	ASSERT_LE(0, other.fd);
	ASSERT_EQ(0, vsvm_vm_create(other.fd, &other.vm));
	EXPECT_EQ(0, vsvm_exec(&other, ops, n, NULL, 0, NULL));
	close(other.fd);

	/* Jobs that have ended do not count. */
	ASSERT_EQ(0, vsvm_vm_destroy(self->gpu.fd, self->gpu.vm));
	EXPECT_EQ(0, vsvm_exec(&second, ops, n, NULL, 0, NULL));
	free(ops);
}

static long meminfo_kib(const char *name)
{
	FILE *file = fopen("/proc/meminfo", "r");
	size_t len = strlen(name);
	char line[128];
	long value = -1;

	if (!file)
		return -1;
	while (fgets(line, sizeof(line), file))
		if (!strncmp(line, name, len) && line[len] == ':')
			value = atol(line + len + 1);
	fclose(file);
	return value;
}

/* As much of everything as a file can have, then close it. */
static int use_up_file(struct _test_data_endless *self)
{
	struct drm_vsvm_op ops[50];
	struct vsvm_gpu gpu = self->gpu;
	uint32_t i, queued = 0;
	int ret = 0;

	for (i = 0; i < 50; i++)
		ops[i] = endless_op(self);
	gpu.fd = vsvm_open(0);
	if (gpu.fd < 0)
		return gpu.fd;
	for (i = 0; i < self->gpu.query.max_vms && !ret; i++) {
		ret = vsvm_vm_create(gpu.fd, &gpu.vm);
		if (!ret && exec_until_error(&gpu, ops, 50, &queued) != -EBUSY)
			ret = -EPROTO;
	}
	for (i = 0; i < self->gpu.query.max_advice && !ret; i++)
		ret = vsvm_advise(&gpu, self->mem + 2 * i * getpagesize(),
				  getpagesize(), DRM_VSVM_ADVICE_SYSTEM);
	close(gpu.fd);
	return ret;
}

#define ROUNDS		20
#define SLACK_KIB	3072	/* less than what a file can use */

TEST_F_TIMEOUT(endless, memory_is_flat, 2 * TIMEOUT)
{
	long before, after;
	int i;

	for (i = 0; i < 5; i++)
		ASSERT_EQ(0, use_up_file(self));
	before = meminfo_kib("Slab");
	for (i = 0; i < ROUNDS; i++)
		ASSERT_EQ(0, use_up_file(self));
	/* Some is freed a little later. */
	for (i = 0; i < 100; i++) {
		after = meminfo_kib("Slab");
		if (after < before + SLACK_KIB)
			break;
		usleep(100 * 1000);
	}
	EXPECT_GT(before + SLACK_KIB, after);
}

/* What debugfs says about the VMs of this process on a device. */
struct vms {
	int ranges;
	int large;
};

static int read_vms(struct vms *vms)
{
	FILE *file = fopen("/sys/kernel/debug/dri/vsvm.0/vsvm-vms", "r");
	bool mine = false;
	unsigned long start, end;
	int pid, n;
	char line[128];

	if (!file)
		return -errno;
	memset(vms, 0, sizeof(*vms));
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "vm %*u: pid: %d", &pid) == 1)
			mine = pid == getpid();
		else if (mine && sscanf(line, " large translations: %d", &n) == 1)
			vms->large += n;
		else if (mine && sscanf(line, " %lx-%lx", &start, &end) == 2)
			vms->ranges++;
	}
	fclose(file);
	return 0;
}

/* Number of ranges of this process, or -1. */
static int count_ranges(void)
{
	struct vms vms;

	return read_vms(&vms) ? -1 : vms.ranges;
}

/* Number of translations for as much memory as a large page, or -1. */
static int count_large(void)
{
	struct vms vms;

	return read_vms(&vms) ? -1 : vms.large;
}

/* Each page a mapping of its own: the device maps no more than it may. */
TEST_F_TIMEOUT(endless, max_ranges, 2 * TIMEOUT)
{
	uint32_t i, n = self->gpu.query.max_ranges + 100;
	size_t page = getpagesize(), size = n * page;
	uint64_t sum;
	char *mem;

	if (count_ranges() < 0)
		SKIP(return, "needs debugfs, and the right to read it");
	mem = vsvm_alloc(size, page);
	ASSERT_NE(NULL, mem);
	vsvm_fill(mem, size, 3);
	for (i = 0; i < n; i += 2)
		ASSERT_EQ(0, mprotect(mem + i * page, page, PROT_READ));
	ASSERT_EQ(0, vsvm_advise(&self->gpu, mem, size, DRM_VSVM_ADVICE_SYSTEM));
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, vsvm_gpu_checksum(&self->gpu, mem, size, &sum));
		EXPECT_EQ(vsvm_checksum(mem, size), sum);
		EXPECT_EQ((int)self->gpu.query.max_ranges, count_ranges());
	}
	munmap(mem, size);
}

/*
 * Memory that the device uses stays when it has to make room, although it is
 * older than memory that it does not use.
 */
FIXTURE(lru)
{
	struct vsvm_gpu gpu;
	size_t chunk;
	/* Chunks that fit, of two more that are allocated. */
	size_t fit;
	char *mem;
};

FIXTURE_SETUP(lru)
{
	ASSERT_EQ(0, vsvm_gpu_open(&self->gpu, 0));
	self->chunk = self->gpu.query.chunk_size;
	self->fit = (self->gpu.query.vram_size - self->gpu.stats.vram_used) /
		    self->chunk;
	ASSERT_LT(2, self->fit);
	self->mem = vsvm_alloc((self->fit + 2) * self->chunk, self->chunk);
	ASSERT_NE(NULL, self->mem);
}

FIXTURE_TEARDOWN(lru)
{
	munmap(self->mem, (self->fit + 2) * self->chunk);
	EXPECT_EQ(0, vsvm_wait_used(self->gpu.fd, self->gpu.stats.vram_used));
	vsvm_gpu_close(&self->gpu);
}

TEST_F_TIMEOUT(lru, used_stays, TIMEOUT)
{
	size_t i, npages = self->chunk / getpagesize();
	uint64_t sum;

	for (i = 0; i < self->fit; i++)
		ASSERT_EQ(0, vsvm_prefetch(&self->gpu,
					   self->mem + i * self->chunk,
					   self->chunk, DRM_VSVM_PLACE_DEVICE));
	ASSERT_EQ(0, vsvm_gpu_checksum(&self->gpu, self->mem, 8, &sum));

	for (; i < self->fit + 2; i++)
		ASSERT_EQ(0, vsvm_prefetch(&self->gpu,
					   self->mem + i * self->chunk,
					   self->chunk, DRM_VSVM_PLACE_DEVICE));
	EXPECT_EQ(npages, vsvm_count(&self->gpu, self->mem, self->chunk,
				     DRM_VSVM_PLACE_DEVICE));
	EXPECT_EQ(0, vsvm_count(&self->gpu, self->mem + self->chunk,
				self->chunk, DRM_VSVM_PLACE_DEVICE));
}

/*
 * Large translations: two of them, until something happens to the memory.
 */

FIXTURE(large)
{
	struct vsvm_gpu gpu;
	size_t page;
	size_t chunk;
	size_t size;
	char *mem;
};

FIXTURE_SETUP(large)
{
	struct drm_vsvm_advise advise = {};

	ASSERT_EQ(0, vsvm_gpu_open(&self->gpu, 0));
	self->page = getpagesize();
	self->chunk = self->gpu.query.chunk_size;
	self->size = 2 * self->chunk;
	self->mem = vsvm_alloc(self->size, self->chunk);
	ASSERT_NE(NULL, self->mem);
	if (count_large() < 0)
		SKIP(return, "needs debugfs, and the right to read it");
	if (self->chunk / self->page != self->page / sizeof(uint64_t) ||
	    self->gpu.query.vram_size < 2 * self->size)
		SKIP(return, "no large pages, or no device memory for them");

	/* The CPU takes back no more than the page that it accesses. */
	advise.vm_id = self->gpu.vm;
	advise.start = (uintptr_t)self->mem;
	advise.size = self->size;
	advise.fault_window = self->page;
	ASSERT_EQ(0, vsvm_ioctl(self->gpu.fd, DRM_IOCTL_VSVM_ADVISE, &advise));
	vsvm_fill(self->mem, self->size, 5);
}

FIXTURE_TEARDOWN(large)
{
	munmap(self->mem, self->size);
	EXPECT_EQ(0, vsvm_wait_used(self->gpu.fd, self->gpu.stats.vram_used));
	vsvm_gpu_close(&self->gpu);
}

/* The device reads what the process has there. */
static void check_sum(struct __test_metadata *_metadata,
		      const struct vsvm_gpu *gpu, const char *mem, size_t size)
{
	uint64_t sum;

	ASSERT_EQ(0, vsvm_gpu_checksum(gpu, mem, size, &sum));
	EXPECT_EQ(vsvm_checksum(mem, size), sum);
}

/* On the device with two large translations. */
static void map_large(struct __test_metadata *_metadata,
		      const struct vsvm_gpu *gpu, char *mem, size_t size)
{
	uint64_t sum, seen = vsvm_checksum(mem, size);

	ASSERT_EQ(0, vsvm_gpu_checksum(gpu, mem, size, &sum));
	ASSERT_EQ(seen, sum);
	ASSERT_EQ(2, count_large());
	ASSERT_EQ((long)(size / getpagesize()),
		  vsvm_count(gpu, mem, size, DRM_VSVM_PLACE_DEVICE));
}

TEST_F_TIMEOUT(large, device, TIMEOUT)
{
	map_large(_metadata, &self->gpu, self->mem, self->size);
	ASSERT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem, self->size, 8));
	EXPECT_EQ(2, count_large());
	EXPECT_EQ(-1, vsvm_verify_value(self->mem, self->size, 8));
	EXPECT_EQ(vsvm_coherent(&self->gpu) ? 2 : 0, count_large());
	ASSERT_EQ(0, vsvm_bring_back(&self->gpu, self->mem, self->size));
	EXPECT_EQ(0, count_large());
	EXPECT_EQ(-1, vsvm_verify_value(self->mem, self->size, 8));
}

/* A huge page in RAM, if there is one, and no bounce buffer before it. */
TEST_F_TIMEOUT(large, system, TIMEOUT)
{
	/* Where there is a page table there will be no huge page. */
	ASSERT_EQ(0, munmap(self->mem, self->size));
	self->mem = vsvm_alloc(self->size, self->chunk);
	ASSERT_NE(NULL, self->mem);
	ASSERT_EQ(0, vsvm_advise(&self->gpu, self->mem, self->size,
				 DRM_VSVM_ADVICE_SYSTEM));
	if (madvise(self->mem, self->size, MADV_HUGEPAGE))
		SKIP(return, "no huge pages");
	vsvm_fill(self->mem, self->size, 6);
	if (vsvm_mapped_huge(self->mem, self->size) != (long)self->size)
		SKIP(return, "no huge pages");
	check_sum(_metadata, &self->gpu, self->mem, self->size);
	if (!count_large())
		SKIP(return, "bounce buffers");
	EXPECT_EQ(2, count_large());
	EXPECT_EQ(-1, vsvm_verify(self->mem, self->size, 6));
	EXPECT_EQ(2, count_large());
}

TEST_F_TIMEOUT(large, munmap, TIMEOUT)
{
	char *hole = self->mem + self->chunk / 2;
	size_t before = self->chunk / 2, after = before - self->page;

	map_large(_metadata, &self->gpu, self->mem, self->size);
	ASSERT_EQ(0, munmap(hole, self->page));
	EXPECT_EQ(1, count_large());
	EXPECT_EQ(EFAULT, vsvm_gpu_fill(&self->gpu, hole, 8, 1));
	ASSERT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem, before, 2));
	ASSERT_EQ(0, vsvm_gpu_fill(&self->gpu, hole + self->page, after, 3));
	EXPECT_EQ(1, count_large());
	EXPECT_EQ(-1, vsvm_verify_value(self->mem, before, 2));
	EXPECT_EQ(-1, vsvm_verify_value(hole + self->page, after, 3));
	EXPECT_EQ(1, count_large());
	check_sum(_metadata, &self->gpu, self->mem + self->chunk, self->chunk);
}

TEST_F_TIMEOUT(large, dontneed, TIMEOUT)
{
	char *hole = self->mem + self->chunk / 2;
	uint64_t old = 1;

	map_large(_metadata, &self->gpu, self->mem, self->size);
	ASSERT_EQ(0, madvise(hole, self->page, MADV_DONTNEED));
	EXPECT_EQ(1, count_large());
	ASSERT_EQ(0, vsvm_gpu_add(&self->gpu, hole + 8, 7, &old));
	EXPECT_EQ(0ULL, old);
	/* The pages around it are mapped as before, but not at once. */
	EXPECT_EQ(1, count_large());
	check_sum(_metadata, &self->gpu, self->mem, self->size);
	EXPECT_EQ(7ULL, *(uint64_t *)(hole + 8));
}

/* A page comes back, and goes to the device again, but not to its place. */
TEST_F_TIMEOUT(large, cpu_fault, TIMEOUT)
{
	char *page = self->mem + self->chunk / 2;

	map_large(_metadata, &self->gpu, self->mem, self->size);
	ASSERT_EQ(0, vsvm_bring_back(&self->gpu, page, self->page));
	EXPECT_EQ(1, count_large());
	EXPECT_EQ(1, vsvm_count(&self->gpu, self->mem, self->size,
				DRM_VSVM_PLACE_SYSTEM));
	ASSERT_EQ(0, vsvm_gpu_fill(&self->gpu, page, self->page, 9));
	EXPECT_EQ(0, vsvm_count(&self->gpu, self->mem, self->size,
				DRM_VSVM_PLACE_SYSTEM));
	EXPECT_EQ(-1, vsvm_verify_value(page, self->page, 9));
	check_sum(_metadata, &self->gpu, self->mem, self->size);

	/* All of it comes back, and to one place. */
	ASSERT_EQ(0, vsvm_prefetch(&self->gpu, self->mem, self->size,
				   DRM_VSVM_PLACE_SYSTEM));
	EXPECT_EQ(0, count_large());
	map_large(_metadata, &self->gpu, self->mem, self->size);
}

/* Device memory in small pieces, of which every other one is free. */
TEST_F_TIMEOUT(large, fragmented, TIMEOUT)
{
	size_t piece = self->chunk / 32, i, n;
	size_t size = self->gpu.query.vram_size;
	char *filler;

	n = (size - self->gpu.stats.vram_used) / piece;
	filler = vsvm_alloc(n * piece, self->chunk);
	ASSERT_NE(NULL, filler);
	for (i = 0; i < n; i++)
		ASSERT_EQ(0, vsvm_prefetch(&self->gpu, filler + i * piece,
					   piece, DRM_VSVM_PLACE_DEVICE));
	for (i = 0; i < n; i += 2)
		ASSERT_EQ(0, munmap(filler + i * piece, piece));
	ASSERT_EQ(0, vsvm_wait_used(self->gpu.fd, self->gpu.stats.vram_used +
						  n / 2 * piece));
	ASSERT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem, self->size, 4));
	EXPECT_EQ(0, count_large());
	EXPECT_EQ((long)(self->size / self->page),
		  vsvm_count(&self->gpu, self->mem, self->size,
			     DRM_VSVM_PLACE_DEVICE));
	EXPECT_EQ(-1, vsvm_verify_value(self->mem, self->size, 4));
	munmap(filler, n * piece);
}

TEST_HARNESS_MAIN
