// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tests of the ioctls of vsvm, with memory of a real process.  The location of
 * pages is also asked from /proc/self/pagemap, which is independent of vsvm.
 */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include <drm/drm.h>

#include "../../kselftest_harness.h"
#include "vsvm_util.h"

#define TIMEOUT		180
#define SIZE		(1024 * 1024)

FIXTURE(svm)
{
	struct vsvm_gpu gpu;
	size_t page_size;
	char *mem;
	size_t size;
	struct drm_vsvm_page *pages;
};

FIXTURE_SETUP(svm)
{
	ASSERT_EQ(0, vsvm_gpu_open(&self->gpu, 0));

	self->page_size = getpagesize();
	self->size = SIZE;
	/* One allocation of the device, wherever the process has it. */
	self->mem = vsvm_alloc(self->size, self->gpu.query.chunk_size);
	ASSERT_NE(NULL, self->mem);
	self->pages = calloc(self->size / self->page_size, sizeof(*self->pages));
	ASSERT_NE(NULL, self->pages);
}

FIXTURE_TEARDOWN(svm)
{
	munmap(self->mem, self->size);
	free(self->pages);
	vsvm_gpu_close(&self->gpu);
}

static struct drm_vsvm_prefetch prefetch_args(uint32_t vm, void *addr,
					      size_t size, uint32_t place)
{
	return (struct drm_vsvm_prefetch) {
		.vm_id = vm,
		.start = (uintptr_t)addr,
		.size = size,
		.place = place,
	};
}

static int to_device(struct _test_data_svm *self)
{
	return vsvm_prefetch(&self->gpu, self->mem, self->size,
			     DRM_VSVM_PLACE_DEVICE);
}

static int bring_back(struct _test_data_svm *self)
{
	return vsvm_bring_back(&self->gpu, self->mem, self->size);
}

static int bring_page_back(struct _test_data_svm *self, size_t page)
{
	return vsvm_bring_back(&self->gpu, self->mem + page * self->page_size,
			       self->page_size);
}

static long count_all(struct _test_data_svm *self, uint8_t place)
{
	return vsvm_count(&self->gpu, self->mem, self->size, place);
}

/* Look at single pages, in self->pages. */
static int look(struct _test_data_svm *self)
{
	return vsvm_residency(&self->gpu, self->mem, self->size, self->pages);
}

#define NPAGES	((long)(self->size / self->page_size))

TEST_F(svm, query)
{
	struct drm_vsvm_query *q = &self->gpu.query;

	EXPECT_EQ(0, q->device);
	EXPECT_NE(0, q->vram_size);
	EXPECT_EQ(self->page_size, q->page_size);
	EXPECT_LE(q->chunk_size, q->vram_size);
	EXPECT_EQ(0, q->chunk_size % q->page_size);
	EXPECT_NE(0, q->max_vms);
	EXPECT_NE(0, q->max_timeslice_ms);
	EXPECT_NE(0, q->max_ops);
	EXPECT_NE(0, q->max_syncs);
	EXPECT_NE(0, q->max_jobs);
	EXPECT_NE(0, q->max_queued_ops);
	EXPECT_NE(0, q->max_job_ms);
	EXPECT_NE(0, q->max_advice);
	EXPECT_NE(0, q->max_ranges);
	EXPECT_EQ(0, q->vram_flags & ~DRM_VSVM_VRAM_COHERENT);

	q->flags = 1;
	EXPECT_EQ(-EINVAL, vsvm_ioctl(self->gpu.fd, DRM_IOCTL_VSVM_QUERY, q));
	EXPECT_EQ(-EFAULT, vsvm_ioctl(self->gpu.fd, DRM_IOCTL_VSVM_QUERY,
				      (void *)self->page_size));
}

TEST_F(svm, stats)
{
	struct drm_vsvm_stats *s = &self->gpu.stats;

	EXPECT_LE(s->vram_used, self->gpu.query.vram_size);

	s->flags = 1;
	EXPECT_EQ(-EINVAL, vsvm_ioctl(self->gpu.fd, DRM_IOCTL_VSVM_STATS, s));
	s->flags = 0;
	s->pad = 1;
	EXPECT_EQ(-EINVAL, vsvm_ioctl(self->gpu.fd, DRM_IOCTL_VSVM_STATS, s));
	EXPECT_EQ(-EFAULT, vsvm_ioctl(self->gpu.fd, DRM_IOCTL_VSVM_STATS,
				      (void *)self->page_size));
}

static int raw_stats(int fd, struct drm_vsvm_stats *stats)
{
	memset(stats, 0, sizeof(*stats));
	return vsvm_ioctl(fd, DRM_IOCTL_VSVM_STATS, stats);
}

/* Use the device with a file of its own, and end. */
static int use_device(void)
{
	size_t size = 16 * getpagesize();
	struct vsvm_gpu gpu;
	char *mem;

	if (vsvm_gpu_open(&gpu, 0))
		return 1;
	mem = vsvm_alloc(size, size);
	if (!mem || vsvm_gpu_fill(&gpu, mem, size, 1))
		return 2;
	return vsvm_prefetch(&gpu, mem, size, DRM_VSVM_PLACE_DEVICE) ? 3 : 0;
}

/* The counters do not reveal the activity of others. */
TEST_F(svm, stats_are_private)
{
	struct drm_vsvm_stats before, meanwhile, after;
	int status, ready[2], done[2];
	char byte = 0;
	pid_t pid;

	ASSERT_EQ(0, raw_stats(self->gpu.fd, &before));
	EXPECT_EQ(0, before.vram_used);
	ASSERT_EQ(0, pipe(ready));
	ASSERT_EQ(0, pipe(done));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		status = use_device();
		if (write(ready[1], &byte, 1) != 1 || read(done[0], &byte, 1) != 1)
			_exit(4);
		_exit(status);
	}
	ASSERT_EQ(1, read(ready[0], &byte, 1));
	EXPECT_EQ(0, raw_stats(self->gpu.fd, &meanwhile));
	EXPECT_EQ(0, memcmp(&before, &meanwhile, sizeof(before)));
	ASSERT_EQ(1, write(done[1], &byte, 1));
	EXPECT_EQ(0, vsvm_wait_child(pid));

	/* The file's own activity is reported. */
	ASSERT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem, self->size, 1));
	ASSERT_EQ(0, raw_stats(self->gpu.fd, &after));
	EXPECT_EQ(self->size, after.vram_used);
	EXPECT_EQ(before.jobs + 1, after.jobs);
	EXPECT_LT(before.gpu_faults, after.gpu_faults);
}

/* An ioctl that does not return anything never will. */
TEST_F(svm, all_ioctls_can_return)
{
	static const unsigned long requests[] = {
		DRM_IOCTL_VSVM_QUERY, DRM_IOCTL_VSVM_STATS,
		DRM_IOCTL_VSVM_VM_CREATE,
		DRM_IOCTL_VSVM_VM_DESTROY, DRM_IOCTL_VSVM_PREFETCH,
		DRM_IOCTL_VSVM_RESIDENCY, DRM_IOCTL_VSVM_ADVISE,
		DRM_IOCTL_VSVM_EXEC, DRM_IOCTL_VSVM_JOB_STATUS,
	};
	size_t i;

	for (i = 0; i < sizeof(requests) / sizeof(*requests); i++)
		EXPECT_EQ(_IOC_READ | _IOC_WRITE, _IOC_DIR(requests[i]));
}

TEST_F(svm, unknown_ioctl)
{
	uint64_t args[32] = {};

	EXPECT_EQ(-EINVAL, vsvm_ioctl(self->gpu.fd,
				      DRM_IOWR(DRM_COMMAND_BASE +
					       DRM_VSVM_JOB_STATUS + 1, args),
				      args));
	EXPECT_EQ(-EINVAL, vsvm_ioctl(self->gpu.fd,
				      DRM_IOWR(DRM_COMMAND_END - 1, args),
				      args));
}

/*
 * A program older or newer than the driver: fields unknown to one of them are
 * zero.
 */
TEST_F(svm, struct_sizes)
{
	struct {
		struct drm_vsvm_query query;
		uint64_t more;
	} large = { .more = 1 };
	uint32_t small[2] = {};

	EXPECT_EQ(0, vsvm_ioctl(self->gpu.fd,
				DRM_IOWR(DRM_COMMAND_BASE + DRM_VSVM_QUERY,
					 large), &large));
	EXPECT_EQ(self->page_size, large.query.page_size);

	EXPECT_EQ(0, vsvm_ioctl(self->gpu.fd,
				DRM_IOWR(DRM_COMMAND_BASE + DRM_VSVM_QUERY,
					 small), small));
	EXPECT_EQ(self->gpu.query.device, small[1]);
}

TEST_F(svm, vm_handles)
{
	struct drm_vsvm_vm_create create = { .flags = 1 };
	struct drm_vsvm_vm_destroy destroy = { .vm_id = self->gpu.vm, .pad = 1 };
	uint32_t last = self->gpu.vm, vm, i;

	EXPECT_EQ(-EINVAL, vsvm_ioctl(self->gpu.fd, DRM_IOCTL_VSVM_VM_CREATE,
				      &create));
	EXPECT_EQ(-EINVAL, vsvm_ioctl(self->gpu.fd, DRM_IOCTL_VSVM_VM_DESTROY,
				      &destroy));
	EXPECT_EQ(-EFAULT, vsvm_ioctl(self->gpu.fd, DRM_IOCTL_VSVM_VM_CREATE,
				      (void *)self->page_size));
	EXPECT_EQ(-EFAULT, vsvm_ioctl(self->gpu.fd, DRM_IOCTL_VSVM_VM_DESTROY,
				      (void *)self->page_size));
	EXPECT_EQ(-ENOENT, vsvm_vm_destroy(self->gpu.fd, 0));
	EXPECT_EQ(-ENOENT, vsvm_vm_destroy(self->gpu.fd, UINT_MAX));

	for (i = 1; i < self->gpu.query.max_vms; i++) {
		ASSERT_EQ(0, vsvm_vm_create(self->gpu.fd, &vm));
		EXPECT_NE(0, vm);
		EXPECT_NE(last, vm);
		last = vm;
	}
	EXPECT_EQ(-ENOSPC, vsvm_vm_create(self->gpu.fd, &vm));
	EXPECT_EQ(0, vsvm_vm_destroy(self->gpu.fd, last));
	EXPECT_EQ(-ENOENT, vsvm_vm_destroy(self->gpu.fd, last));
	EXPECT_EQ(0, vsvm_vm_create(self->gpu.fd, &vm));
}

/*
 * The ioctl @request with the argument @good, but for one field, must fail in
 * this way; both are variables of the test.
 */
#define EXPECT_BAD(err, field, value) do {				\
	__typeof__(good) bad = good;					\
									\
	bad.field = (value);						\
	EXPECT_EQ(err, vsvm_ioctl(self->gpu.fd, request, &bad));	\
} while (0)

/* And so must one that cannot be read. */
#define EXPECT_BAD_POINTER()						\
	EXPECT_EQ(-EFAULT, vsvm_ioctl(self->gpu.fd, request,		\
				      (void *)self->page_size))

/* For ioctls that take a VM and a range. */
#define EXPECT_BAD_RANGE() do {						\
	uint64_t page = self->page_size;				\
									\
	EXPECT_BAD(-ENOENT, vm_id, 0);					\
	EXPECT_BAD(-ENOENT, vm_id, self->gpu.vm + 1);			\
	EXPECT_BAD(-EINVAL, flags, 1u << 1);				\
	EXPECT_BAD(-EINVAL, flags, 1u << 31);				\
	EXPECT_BAD(-EINVAL, start, good.start + 1);			\
	EXPECT_BAD(-EINVAL, start, good.start + page / 2);		\
	EXPECT_BAD(-EINVAL, start, -page);				\
	EXPECT_BAD(-EINVAL, start, 1ULL << 63);				\
	EXPECT_BAD(-EINVAL, size, 0);					\
	EXPECT_BAD(-EINVAL, size, page - 1);				\
	EXPECT_BAD(-EINVAL, size, page + 1);				\
	EXPECT_BAD(-EINVAL, size, -page);				\
	EXPECT_BAD(-EINVAL, size, -good.start);				\
	EXPECT_BAD_POINTER();						\
} while (0)

/* The fields that say how the CPU may take pages back. */
#define EXPECT_BAD_LIMITS() do {					\
	struct drm_vsvm_query *q = &self->gpu.query;			\
									\
	EXPECT_BAD(-EINVAL, timeslice_ms, q->max_timeslice_ms + 1);	\
	EXPECT_BAD(-EINVAL, fault_window, 1);				\
	EXPECT_BAD(-EINVAL, fault_window,				\
		   q->chunk_size + self->page_size);			\
} while (0)

TEST_F(svm, prefetch_invalid)
{
	struct drm_vsvm_prefetch good = prefetch_args(self->gpu.vm, self->mem,
						      self->size,
						      DRM_VSVM_PLACE_DEVICE);
	const unsigned long request = DRM_IOCTL_VSVM_PREFETCH;

	EXPECT_BAD_RANGE();
	EXPECT_BAD_LIMITS();
	EXPECT_BAD(-EINVAL, place, DRM_VSVM_PLACE_NONE);
	EXPECT_BAD(-EINVAL, place, DRM_VSVM_PLACE_PEER);
	EXPECT_BAD(-EINVAL, place, DRM_VSVM_PLACE_UNMAPPED);
	EXPECT_BAD(-EINVAL, place, UINT_MAX);

	good.place = DRM_VSVM_PLACE_SYSTEM;
	EXPECT_BAD(-EINVAL, timeslice_ms, 1);
	EXPECT_BAD(-EINVAL, fault_window, self->page_size);
	EXPECT_EQ(NPAGES, count_all(self, DRM_VSVM_PLACE_NONE));
}

TEST_F(svm, residency_invalid)
{
	struct drm_vsvm_residency good = {
		.vm_id = self->gpu.vm,
		.start = (uintptr_t)self->mem,
		.size = self->size,
		.pages = (uintptr_t)self->pages,
	};
	const unsigned long request = DRM_IOCTL_VSVM_RESIDENCY;
	uint64_t page = self->page_size;

	EXPECT_BAD_RANGE();
	EXPECT_BAD(-EINVAL, flags, 1u << 0);
	EXPECT_BAD(-EFAULT, pages, 0);
	EXPECT_BAD(-EFAULT, pages, page);
	EXPECT_BAD(-EFAULT, pages, -page);
}

TEST_F(svm, advise_invalid)
{
	struct drm_vsvm_advise good = {
		.vm_id = self->gpu.vm,
		.start = (uintptr_t)self->mem,
		.size = self->size,
	};
	const unsigned long request = DRM_IOCTL_VSVM_ADVISE;
	uint64_t page = self->page_size;

	EXPECT_BAD_RANGE();
	EXPECT_BAD_LIMITS();
	EXPECT_BAD(-EINVAL, advice, DRM_VSVM_ADVICE_DEVICE + 1);
	EXPECT_BAD(-EINVAL, advice, UINT_MAX);
	EXPECT_BAD(-EINVAL, flags, 1u << 0);

	/* The limits themselves are allowed, and so are unmapped addresses. */
	EXPECT_BAD(0, timeslice_ms, self->gpu.query.max_timeslice_ms);
	EXPECT_BAD(0, fault_window, self->gpu.query.chunk_size);
	EXPECT_BAD(0, advice, DRM_VSVM_ADVICE_SYSTEM);
	EXPECT_BAD(0, advice, DRM_VSVM_ADVICE_DEVICE);
	EXPECT_BAD(0, start, page);
	EXPECT_EQ(NPAGES, count_all(self, DRM_VSVM_PLACE_NONE));
}

/* Each second page, so that none is a neighbour of another. */
static int advise_page(struct _test_data_svm *self, uint32_t i,
		       uint32_t advice)
{
	char *addr = self->mem + 2 * i * self->page_size;

	return vsvm_advise(&self->gpu, addr, self->page_size, advice);
}

TEST_F(svm, max_advice)
{
	uint32_t i, n = self->gpu.query.max_advice;
	size_t size = 2 * (n + 1) * self->page_size;

	/* Advice is for addresses, mapped or not. */
	for (i = 0; i < n; i++)
		ASSERT_EQ(0, advise_page(self, i, DRM_VSVM_ADVICE_SYSTEM));
	EXPECT_EQ(-ENOSPC, advise_page(self, n, DRM_VSVM_ADVICE_SYSTEM));

	/* Replacing or removing adds no entry. */
	EXPECT_EQ(0, advise_page(self, 1, DRM_VSVM_ADVICE_DEVICE));
	EXPECT_EQ(0, advise_page(self, n, DRM_VSVM_ADVICE_DEFAULT));
	EXPECT_EQ(0, advise_page(self, 2, DRM_VSVM_ADVICE_DEFAULT));
	EXPECT_EQ(0, advise_page(self, n, DRM_VSVM_ADVICE_SYSTEM));
	EXPECT_EQ(-ENOSPC, advise_page(self, 2, DRM_VSVM_ADVICE_SYSTEM));

	/* One in place of all; cutting it makes three. */
	EXPECT_EQ(0, vsvm_advise(&self->gpu, self->mem, size,
				 DRM_VSVM_ADVICE_SYSTEM));
	for (i = 1; 2 * i + 1 <= n; i++)
		ASSERT_EQ(0, advise_page(self, i, DRM_VSVM_ADVICE_DEVICE));
	if (n % 2 == 0)
		EXPECT_EQ(-ENOSPC, advise_page(self, i, DRM_VSVM_ADVICE_DEVICE));
	EXPECT_EQ(0, vsvm_advise(&self->gpu, self->mem, size,
				 DRM_VSVM_ADVICE_DEFAULT));
	EXPECT_EQ(0, advise_page(self, 0, DRM_VSVM_ADVICE_SYSTEM));
}

TEST_F(svm, exec_invalid)
{
	struct drm_vsvm_op op = vsvm_op_fill(self->mem, self->size, 1);
	struct drm_vsvm_exec good = {
		.vm_id = self->gpu.vm,
		.ops = (uintptr_t)&op,
		.num_ops = 1,
	};
	struct drm_vsvm_query *q = &self->gpu.query;
	const unsigned long request = DRM_IOCTL_VSVM_EXEC;
	uint64_t page = self->page_size;

	EXPECT_BAD(-ENOENT, vm_id, 0);
	EXPECT_BAD(-ENOENT, vm_id, self->gpu.vm + 1);
	EXPECT_BAD(-EINVAL, flags, 1);
	EXPECT_BAD(-EINVAL, flags, 1u << 31);
	EXPECT_BAD(-EFAULT, ops, 0);
	EXPECT_BAD(-EFAULT, ops, page);
	EXPECT_BAD(-EFAULT, ops, -page);
	EXPECT_BAD(-EINVAL, num_ops, 0);
	EXPECT_BAD(-E2BIG, num_ops, q->max_ops + 1);
	EXPECT_BAD(-E2BIG, num_ops, UINT_MAX);
	EXPECT_BAD(-EFAULT, num_syncs, 1);
	EXPECT_BAD(-E2BIG, num_syncs, q->max_syncs + 1);
	EXPECT_BAD(-E2BIG, num_syncs, UINT_MAX);
	EXPECT_BAD_POINTER();
	EXPECT_EQ(NPAGES, count_all(self, DRM_VSVM_PLACE_NONE));
}

/* The 64-bit fields of an operation, in their order. */
enum op_field { DST, SRC, SCALAR, OP_SIZE, COUNT, VALUE, COMPARE, OFFSET, RESULT,
		OP_FIELDS };

static __u64 *op_field(struct drm_vsvm_op *op, enum op_field field)
{
	return &op->dst + field;
}

struct op_case {
	struct drm_vsvm_op op;
	/*
	 * Bits of enum op_field: fields of the operation, and which of them are
	 * addresses.
	 */
	unsigned int fields;
	unsigned int addresses;
};

#define F(field)	(1u << (field))

static void op_cases(char *mem, struct op_case *cases)
{
	char *a = mem, *b = mem + 4096, *c = mem + 8192;

	cases[DRM_VSVM_OP_FILL] = (struct op_case) {
		vsvm_op_fill(a, 64, 1), F(DST) | F(OP_SIZE) | F(VALUE), F(DST)
	};
	cases[DRM_VSVM_OP_COPY] = (struct op_case) {
		vsvm_op_copy(a, b, 64), F(DST) | F(SRC) | F(OP_SIZE),
		F(DST) | F(SRC)
	};
	cases[DRM_VSVM_OP_ADD] = (struct op_case) {
		vsvm_op_add(a, 1, c), F(DST) | F(VALUE) | F(RESULT),
		F(DST) | F(RESULT)
	};
	cases[DRM_VSVM_OP_CAS] = (struct op_case) {
		vsvm_op_cas(a, 1, 2, c),
		F(DST) | F(COMPARE) | F(VALUE) | F(RESULT), F(DST) | F(RESULT)
	};
	cases[DRM_VSVM_OP_CHECKSUM] = (struct op_case) {
		vsvm_op_checksum(a, 64, c), F(SRC) | F(OP_SIZE) | F(RESULT),
		F(SRC) | F(RESULT)
	};
	cases[DRM_VSVM_OP_WALK] = (struct op_case) {
		vsvm_op_walk(a, 1, 8, 1, c),
		F(SRC) | F(COUNT) | F(VALUE) | F(OFFSET) | F(RESULT),
		F(SRC) | F(RESULT)
	};
	cases[DRM_VSVM_OP_MULADD] = (struct op_case) {
		vsvm_op_muladd(a, b, c, 64),
		F(DST) | F(SRC) | F(SCALAR) | F(OP_SIZE),
		F(DST) | F(SRC) | F(SCALAR)
	};
}

#define NUM_OPS	(DRM_VSVM_OP_MULADD + 1)

/* Set one field of an operation, and try. */
static int exec_with(struct _test_data_svm *self, const struct op_case *c,
		     enum op_field field, uint64_t value)
{
	struct drm_vsvm_op op = c->op;

	*op_field(&op, field) = value;
	return vsvm_run(&self->gpu, &op, 1, NULL);
}

TEST_F(svm, op_fields)
{
	struct op_case cases[NUM_OPS];
	enum op_field f;
	int i;

	memset(self->mem, 0, self->size);
	op_cases(self->mem, cases);
	for (i = 0; i < NUM_OPS; i++) {
		EXPECT_EQ(0, vsvm_run(&self->gpu, &cases[i].op, 1, NULL))
			TH_LOG("op %d", i);
		for (f = 0; f < OP_FIELDS; f++) {
			if (cases[i].fields & F(f))
				continue;
			EXPECT_EQ(-EINVAL, exec_with(self, &cases[i], f, 8))
				TH_LOG("op %d has no field %d", i, f);
		}
	}
}

TEST_F(svm, op_addresses)
{
	struct op_case cases[NUM_OPS], *c;
	enum op_field f;
	uint64_t addr;
	int i, err;

	op_cases(self->mem, cases);
	for (i = 0; i < NUM_OPS; i++) {
		c = &cases[i];
		for (f = 0; f < OP_FIELDS; f++) {
			if (!(c->addresses & F(f)))
				continue;
			addr = *op_field(&c->op, f);
			err = i == DRM_VSVM_OP_COPY ? 0 : -EINVAL;
			EXPECT_EQ(err, exec_with(self, c, f, addr + 1))
				TH_LOG("op %d field %d", i, f);
			EXPECT_EQ(err, exec_with(self, c, f, addr + 4))
				TH_LOG("op %d field %d", i, f);
			EXPECT_EQ(-EINVAL, exec_with(self, c, f, -8ULL))
				TH_LOG("op %d field %d", i, f);
			EXPECT_EQ(-EINVAL, exec_with(self, c, f, 1ULL << 63))
				TH_LOG("op %d field %d", i, f);
		}
	}
}

TEST_F(svm, op_invalid)
{
	struct op_case cases[NUM_OPS], *c;
	struct drm_vsvm_op op;
	int i, err;

	op_cases(self->mem, cases);
	for (i = 0; i < NUM_OPS; i++) {
		op = cases[i].op;
		op.flags = 1;
		EXPECT_EQ(-EINVAL, vsvm_run(&self->gpu, &op, 1, NULL))
			TH_LOG("op %d", i);
		if (!(cases[i].fields & F(OP_SIZE)))
			continue;
		c = &cases[i];
		EXPECT_EQ(-EINVAL, exec_with(self, c, OP_SIZE, 0))
			TH_LOG("op %d", i);
		EXPECT_EQ(-EINVAL, exec_with(self, c, OP_SIZE, -8ULL))
			TH_LOG("op %d", i);
		EXPECT_EQ(-EINVAL, exec_with(self, c, OP_SIZE, 1ULL << 62))
			TH_LOG("op %d", i);
		err = i == DRM_VSVM_OP_COPY ? 0 : -EINVAL;
		EXPECT_EQ(err, exec_with(self, c, OP_SIZE, 60))
			TH_LOG("op %d", i);
	}
	op = cases[0].op;
	op.op = NUM_OPS;
	EXPECT_EQ(-EINVAL, vsvm_run(&self->gpu, &op, 1, NULL));
	op.op = UINT_MAX;
	EXPECT_EQ(-EINVAL, vsvm_run(&self->gpu, &op, 1, NULL));

	c = &cases[DRM_VSVM_OP_CHECKSUM];
	EXPECT_EQ(-EINVAL, exec_with(self, c, RESULT, 0));
	c = &cases[DRM_VSVM_OP_WALK];
	EXPECT_EQ(-EINVAL, exec_with(self, c, COUNT, 0));
	EXPECT_EQ(-EINVAL, exec_with(self, c, OFFSET, 4));
	EXPECT_EQ(0, exec_with(self, c, SRC, 0));

	/* Overlap */
	c = &cases[DRM_VSVM_OP_COPY];
	EXPECT_EQ(-EINVAL, exec_with(self, c, SRC, c->op.dst));
	EXPECT_EQ(-EINVAL, exec_with(self, c, SRC, c->op.dst + 63));
	EXPECT_EQ(-EINVAL, exec_with(self, c, DST, c->op.src + 63));
	EXPECT_EQ(0, exec_with(self, c, SRC, c->op.dst + 64));
	c = &cases[DRM_VSVM_OP_MULADD];
	EXPECT_EQ(0, exec_with(self, c, SRC, c->op.dst));
	EXPECT_EQ(-EINVAL, exec_with(self, c, SRC, c->op.dst + 56));
	EXPECT_EQ(-EINVAL, exec_with(self, c, DST, c->op.src + 56));
	EXPECT_EQ(0, exec_with(self, c, SRC, c->op.dst + 64));
}

/* One bad operation, anywhere, and nothing is executed. */
TEST_F(svm, op_invalid_last)
{
	struct drm_vsvm_op ops[3];
	uint64_t job;

	ops[0] = vsvm_op_fill(self->mem, self->page_size, 1);
	ops[1] = ops[0];
	ops[2] = ops[0];
	ops[2].flags = 1;
	EXPECT_EQ(-EINVAL, vsvm_run(&self->gpu, ops, 3, NULL));
	EXPECT_EQ(NPAGES, count_all(self, DRM_VSVM_PLACE_NONE));

	ASSERT_EQ(0, vsvm_exec(&self->gpu, ops, 2, NULL, 0, &job));
	EXPECT_EQ(1ULL, job);
	ASSERT_EQ(0, vsvm_exec(&self->gpu, ops, 2, NULL, 0, &job));
	EXPECT_EQ(2ULL, job);
}

TEST_F(svm, sync_invalid)
{
	struct drm_vsvm_op op = vsvm_op_fill(self->mem, self->page_size, 1);
	struct drm_vsvm_sync good = { .flags = DRM_VSVM_SYNC_SIGNAL }, bad;

	ASSERT_EQ(0, vsvm_syncobj_create(self->gpu.fd, &good.handle));
#define EXPECT_BAD_SYNC(err, field, value) do {				\
	bad = good;							\
	bad.field = (value);						\
	EXPECT_EQ(err, vsvm_exec(&self->gpu, &op, 1, &bad, 1, NULL));	\
} while (0)
	EXPECT_BAD_SYNC(-ENOENT, handle, 0);
	EXPECT_BAD_SYNC(-ENOENT, handle, good.handle + 1);
	EXPECT_BAD_SYNC(-EINVAL, flags, 1u << 1);
	EXPECT_BAD_SYNC(-EINVAL, flags, 1u << 31);

	/* No fence to wait for. */
	good.flags = 0;
	EXPECT_BAD_SYNC(-ENOENT, handle, 0);
	EXPECT_BAD_SYNC(-ENOENT, handle, good.handle + 1);
	EXPECT_BAD_SYNC(-EINVAL, timeline_value, 0);
	EXPECT_BAD_SYNC(-EINVAL, timeline_value, 1);
#undef EXPECT_BAD_SYNC
	EXPECT_EQ(NPAGES, count_all(self, DRM_VSVM_PLACE_NONE));

	good.flags = DRM_VSVM_SYNC_SIGNAL;
	ASSERT_EQ(0, vsvm_exec(&self->gpu, &op, 1, &good, 1, NULL));
	EXPECT_EQ(0, vsvm_syncobj_wait(self->gpu.fd, good.handle, 0,
				       VSVM_WAIT_MS));
	EXPECT_EQ(-1, vsvm_verify_value(self->mem, self->page_size, 1));
}

TEST_F(svm, job_status_invalid)
{
	struct drm_vsvm_op op = vsvm_op_fill(self->mem, self->page_size, 1);
	const unsigned long request = DRM_IOCTL_VSVM_JOB_STATUS;
	struct drm_vsvm_job_status good;

	EXPECT_EQ(-EINVAL, vsvm_job_status(&self->gpu, 0, &good));
	EXPECT_EQ(-EINVAL, vsvm_job_status(&self->gpu, 1, &good));
	ASSERT_EQ(0, vsvm_run(&self->gpu, &op, 1, NULL));
	ASSERT_EQ(0, vsvm_job_status(&self->gpu, 1, &good));
	EXPECT_EQ(0, good.error);
	EXPECT_EQ(0, good.op);
	EXPECT_EQ(0, good.address);

	EXPECT_BAD(-ENOENT, vm_id, 0);
	EXPECT_BAD(-ENOENT, vm_id, self->gpu.vm + 1);
	EXPECT_BAD(-EINVAL, pad, 1);
	EXPECT_BAD(-EINVAL, job, 0);
	EXPECT_BAD(-EINVAL, job, 2);
	EXPECT_BAD(-EINVAL, job, UINT64_MAX);
	EXPECT_BAD_POINTER();
}

TEST_F(svm, other_process)
{
	struct drm_vsvm_job_status job_status;
	struct drm_vsvm_op op;
	uint32_t vm;
	pid_t pid;

	op = vsvm_op_fill(self->mem, sizeof(uint64_t), 1);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		if (to_device(self) != -EPERM ||
		    count_all(self, DRM_VSVM_PLACE_NONE) != -EPERM)
			_exit(1);
		if (vsvm_advise(&self->gpu, self->mem, self->size, 0) != -EPERM ||
		    vsvm_exec(&self->gpu, &op, 1, NULL, 0, NULL) != -EPERM ||
		    vsvm_job_status(&self->gpu, 1, &job_status) != -EPERM)
			_exit(4);
		if (vsvm_vm_create(self->gpu.fd, &vm))
			_exit(2);
		self->gpu.vm = vm;
		if (to_device(self))
			_exit(3);
		_exit(count_all(self, DRM_VSVM_PLACE_DEVICE) != NPAGES);
	}
	EXPECT_EQ(0, vsvm_wait_child(pid));
	EXPECT_EQ(NPAGES, count_all(self, DRM_VSVM_PLACE_NONE));
	EXPECT_EQ(0, vsvm_wait_used(self->gpu.fd, self->gpu.stats.vram_used));
}

TEST_F_TIMEOUT(svm, round_trip, TIMEOUT)
{
	struct drm_vsvm_prefetch args = prefetch_args(self->gpu.vm, self->mem,
						      self->size,
						      DRM_VSVM_PLACE_DEVICE);
	uint64_t sum;

	vsvm_fill(self->mem, self->size, 1);
	sum = vsvm_checksum(self->mem, self->size);
	EXPECT_EQ(NPAGES, count_all(self, DRM_VSVM_PLACE_SYSTEM));

	ASSERT_EQ(0, vsvm_ioctl(self->gpu.fd, DRM_IOCTL_VSVM_PREFETCH, &args));
	EXPECT_EQ(NPAGES, args.moved);
	EXPECT_EQ(0, args.resident);
	EXPECT_EQ(0, args.left);
	EXPECT_EQ(NPAGES, count_all(self, DRM_VSVM_PLACE_DEVICE));
	ASSERT_EQ(0, look(self));
	EXPECT_EQ(DRM_VSVM_PAGE_WRITE, self->pages[0].flags);

	ASSERT_EQ(0, vsvm_ioctl(self->gpu.fd, DRM_IOCTL_VSVM_PREFETCH, &args));
	EXPECT_EQ(0, args.moved);
	EXPECT_EQ(NPAGES, args.resident);

	args.place = DRM_VSVM_PLACE_SYSTEM;
	ASSERT_EQ(0, vsvm_ioctl(self->gpu.fd, DRM_IOCTL_VSVM_PREFETCH, &args));
	EXPECT_EQ(NPAGES, args.moved);
	EXPECT_EQ(0, args.left);
	EXPECT_EQ(NPAGES, count_all(self, DRM_VSVM_PLACE_SYSTEM));
	EXPECT_EQ(sum, vsvm_checksum(self->mem, self->size));

	ASSERT_EQ(0, to_device(self));
	EXPECT_EQ(sum, vsvm_checksum(self->mem, self->size));
	EXPECT_EQ(NPAGES, count_all(self, vsvm_accessed_place(&self->gpu)));
	EXPECT_EQ(0, bring_back(self));
	EXPECT_EQ(0, vsvm_wait_used(self->gpu.fd, self->gpu.stats.vram_used));
}

/* Memory never written is zero, whatever the device memory held before. */
TEST_F(svm, untouched_is_zero)
{
	size_t i, nonzero = 0;

	vsvm_fill(self->mem, self->size, 2);
	ASSERT_EQ(0, to_device(self));
	ASSERT_EQ(0, madvise(self->mem, self->size, MADV_DONTNEED));
	EXPECT_EQ(0, vsvm_wait_used(self->gpu.fd, self->gpu.stats.vram_used));

	ASSERT_EQ(0, to_device(self));
	EXPECT_EQ(NPAGES, count_all(self, DRM_VSVM_PLACE_DEVICE));
	for (i = 0; i < self->size; i++)
		nonzero += self->mem[i] != 0;
	EXPECT_EQ(0, nonzero);
}

TEST_F(svm, fault_window)
{
	struct drm_vsvm_prefetch args = prefetch_args(self->gpu.vm, self->mem,
						      self->size,
						      DRM_VSVM_PLACE_DEVICE);

	args.fault_window = self->page_size;
	vsvm_fill(self->mem, self->size, 3);
	ASSERT_EQ(0, vsvm_ioctl(self->gpu.fd, DRM_IOCTL_VSVM_PREFETCH, &args));
	ASSERT_EQ(0, bring_page_back(self, 5));
	EXPECT_EQ(1, count_all(self, DRM_VSVM_PLACE_SYSTEM));
	ASSERT_EQ(0, look(self));
	EXPECT_EQ(DRM_VSVM_PLACE_SYSTEM, self->pages[5].place);

	/* Only what is missing moves. */
	ASSERT_EQ(0, vsvm_ioctl(self->gpu.fd, DRM_IOCTL_VSVM_PREFETCH, &args));
	EXPECT_EQ(1, args.moved);
	EXPECT_EQ(NPAGES - 1, args.resident);
	EXPECT_EQ(NPAGES, count_all(self, DRM_VSVM_PLACE_DEVICE));
}

struct mover {
	struct _test_data_svm *self;
	bool stop;
	int error;
};

static void *move_to_and_fro(void *arg)
{
	struct mover *mover = arg;
	struct drm_vsvm_prefetch args;
	int ret = 0;

	args = prefetch_args(mover->self->gpu.vm, mover->self->mem,
			     mover->self->size, DRM_VSVM_PLACE_DEVICE);
	while (!ret && !__atomic_load_n(&mover->stop, __ATOMIC_RELAXED)) {
		args.flags = DRM_VSVM_PREFETCH_PARTIAL;
		ret = vsvm_ioctl(mover->self->gpu.fd, DRM_IOCTL_VSVM_PREFETCH,
				 &args);
		args.place ^= DRM_VSVM_PLACE_DEVICE ^ DRM_VSVM_PLACE_SYSTEM;
	}
	mover->error = ret;
	return NULL;
}

/* A page under migration is not reported as missing. */
TEST_F_TIMEOUT(svm, residency_of_moving, TIMEOUT)
{
	struct mover mover = { .self = self };
	double began = vsvm_now_ms();
	long i, nowhere = 0, looks = 0;
	pthread_t thread;
	int ret;

	vsvm_fill(self->mem, self->size, 3);
	ASSERT_EQ(0, pthread_create(&thread, NULL, move_to_and_fro, &mover));
	while (vsvm_now_ms() < began + 3000) {
		ret = look(self);
		if (ret == -EBUSY)
			continue;
		ASSERT_EQ(0, ret);
		for (i = 0; i < NPAGES; i++)
			nowhere += self->pages[i].place == DRM_VSVM_PLACE_NONE;
		looks++;
	}
	__atomic_store_n(&mover.stop, true, __ATOMIC_RELAXED);
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(0, mover.error);
	EXPECT_LT(0, looks);
	EXPECT_EQ(0, nowhere);
	EXPECT_EQ(-1, vsvm_verify(self->mem, self->size, 3));
}

TEST_F(svm, timeslice)
{
	struct drm_vsvm_prefetch args = prefetch_args(self->gpu.vm, self->mem,
						      self->size,
						      DRM_VSVM_PLACE_DEVICE);
	double began;

	if (vsvm_coherent(&self->gpu))
		SKIP(return, "the CPU accesses device memory in place");

	vsvm_fill(self->mem, self->size, 4);
	args.timeslice_ms = 300;
	began = vsvm_now_ms();
	ASSERT_EQ(0, vsvm_ioctl(self->gpu.fd, DRM_IOCTL_VSVM_PREFETCH, &args));
	vsvm_touch(self->mem);
	EXPECT_LE(299, vsvm_now_ms() - began);
}

TEST_F(svm, hole_and_file)
{
	struct drm_vsvm_prefetch args = prefetch_args(self->gpu.vm, self->mem,
						      self->size,
						      DRM_VSVM_PLACE_DEVICE);
	size_t page = self->page_size;
	int fd;

	vsvm_fill(self->mem, self->size, 5);
	ASSERT_EQ(0, munmap(self->mem + page, page));
	EXPECT_EQ(-EFAULT, vsvm_ioctl(self->gpu.fd, DRM_IOCTL_VSVM_PREFETCH, &args));
	EXPECT_EQ(1, args.moved);
	EXPECT_EQ(1, count_all(self, DRM_VSVM_PLACE_UNMAPPED));
	ASSERT_EQ(0, look(self));
	EXPECT_EQ(DRM_VSVM_PLACE_DEVICE, self->pages[0].place);
	EXPECT_EQ(DRM_VSVM_PLACE_UNMAPPED, self->pages[1].place);

	fd = memfd_create("vsvm", MFD_CLOEXEC);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ftruncate(fd, page));
	ASSERT_EQ(self->mem + 2 * page,
		  mmap(self->mem + 2 * page, page, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_FIXED, fd, 0));
	close(fd);
	args.start += 2 * page;
	args.size = page;
	EXPECT_EQ(-EOPNOTSUPP, vsvm_ioctl(self->gpu.fd, DRM_IOCTL_VSVM_PREFETCH,
					  &args));
	EXPECT_EQ(1, args.left);

	args.start = (uintptr_t)self->mem;
	args.size = self->size;
	args.flags = DRM_VSVM_PREFETCH_PARTIAL;
	EXPECT_EQ(0, vsvm_ioctl(self->gpu.fd, DRM_IOCTL_VSVM_PREFETCH, &args));
	EXPECT_EQ(1, args.resident);
	EXPECT_EQ(1, args.left);
	EXPECT_EQ(NPAGES - 3, args.moved);
}

TEST_F(svm, pinned_page)
{
	struct drm_vsvm_prefetch args = prefetch_args(self->gpu.vm, self->mem,
						      self->size,
						      DRM_VSVM_PLACE_DEVICE);
	struct iovec iov;
	int pipes[2];

	vsvm_fill(self->mem, self->size, 6);
	iov.iov_base = self->mem + 7 * self->page_size;
	iov.iov_len = self->page_size;
	ASSERT_EQ(0, pipe(pipes));
	ASSERT_EQ((ssize_t)self->page_size, vmsplice(pipes[1], &iov, 1, 0));

	EXPECT_EQ(-EBUSY, vsvm_ioctl(self->gpu.fd, DRM_IOCTL_VSVM_PREFETCH, &args));
	EXPECT_EQ(1, args.left);
	args.flags = DRM_VSVM_PREFETCH_PARTIAL;
	EXPECT_EQ(0, vsvm_ioctl(self->gpu.fd, DRM_IOCTL_VSVM_PREFETCH, &args));
	EXPECT_EQ(1, args.left);
	EXPECT_EQ(1, count_all(self, DRM_VSVM_PLACE_SYSTEM));

	close(pipes[0]);
	close(pipes[1]);
	args.flags = 0;
	EXPECT_EQ(0, vsvm_ioctl(self->gpu.fd, DRM_IOCTL_VSVM_PREFETCH, &args));
	EXPECT_EQ(NPAGES, count_all(self, DRM_VSVM_PLACE_DEVICE));
}

TEST_F_TIMEOUT(svm, fork_cow, TIMEOUT)
{
	uint64_t sum, child_sum;
	pid_t pid;

	vsvm_fill(self->mem, self->size, 8);
	child_sum = vsvm_checksum(self->mem, self->size);
	vsvm_fill(self->mem, self->size, 7);
	sum = vsvm_checksum(self->mem, self->size);
	ASSERT_EQ(0, to_device(self));

	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		if (vsvm_checksum(self->mem, self->size) != sum)
			_exit(1);
		vsvm_fill(self->mem, self->size, 8);
		if (vsvm_vm_create(self->gpu.fd, &self->gpu.vm))
			_exit(2);
		if (to_device(self))
			_exit(3);
		if (count_all(self, DRM_VSVM_PLACE_DEVICE) != NPAGES)
			_exit(4);
		_exit(vsvm_checksum(self->mem, self->size) != child_sum);
	}
	/* While the child does the same. */
	self->mem[0] ^= 1;
	EXPECT_EQ(0, vsvm_prefetch(&self->gpu, self->mem, self->page_size,
				   DRM_VSVM_PLACE_SYSTEM));
	self->mem[0] ^= 1;
	EXPECT_EQ(0, vsvm_wait_child(pid));
	EXPECT_EQ(sum, vsvm_checksum(self->mem, self->size));
}

TEST_F(svm, partial_munmap)
{
	size_t half = self->size / 2;
	uint64_t sum;

	vsvm_fill(self->mem, self->size, 9);
	sum = vsvm_checksum(self->mem + half, half);
	ASSERT_EQ(0, to_device(self));
	ASSERT_EQ(0, munmap(self->mem, half));
	EXPECT_EQ(NPAGES / 2, count_all(self, DRM_VSVM_PLACE_UNMAPPED));
	EXPECT_EQ(NPAGES / 2, count_all(self, DRM_VSVM_PLACE_DEVICE));
	EXPECT_EQ((long long)half, vsvm_fdinfo(self->gpu.fd, "drm-resident-vram"));
	EXPECT_EQ(sum, vsvm_checksum(self->mem + half, half));
	EXPECT_EQ(0, vsvm_bring_back(&self->gpu, self->mem + half, half));
	EXPECT_EQ(0, vsvm_wait_used(self->gpu.fd, self->gpu.stats.vram_used));
}

TEST_F(svm, mremap)
{
	uint64_t sum;
	char *moved;

	vsvm_fill(self->mem, self->size, 10);
	sum = vsvm_checksum(self->mem, self->size);
	ASSERT_EQ(0, to_device(self));

	moved = mmap(NULL, self->size + self->page_size, PROT_NONE,
		     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, moved);
	moved += self->page_size;
	ASSERT_EQ(moved, mremap(self->mem, self->size, self->size,
				MREMAP_MAYMOVE | MREMAP_FIXED, moved));
	self->mem = moved;
	EXPECT_EQ(NPAGES, count_all(self, DRM_VSVM_PLACE_DEVICE));
	EXPECT_EQ(sum, vsvm_checksum(self->mem, self->size));
	EXPECT_EQ(NPAGES, count_all(self, vsvm_accessed_place(&self->gpu)));
}

TEST_F_TIMEOUT(svm, eviction, TIMEOUT)
{
	struct drm_vsvm_stats stats;
	size_t size = self->gpu.query.vram_size * 3 / 2;
	uint64_t sum;
	char *mem;

	vsvm_fill(self->mem, self->size, 11);
	ASSERT_EQ(0, to_device(self));

	mem = vsvm_alloc(size, self->gpu.query.chunk_size);
	ASSERT_NE(NULL, mem);
	vsvm_fill(mem, size, 12);
	sum = vsvm_checksum(mem, size);

	EXPECT_EQ(0, vsvm_prefetch(&self->gpu, mem, size,
				   DRM_VSVM_PLACE_DEVICE));
	ASSERT_EQ(0, vsvm_stats(self->gpu.fd, &stats));
	EXPECT_LE(stats.vram_used, self->gpu.query.vram_size);
	EXPECT_GT(stats.vram_used, self->gpu.query.vram_size / 2);
	/* The oldest goes first. */
	EXPECT_EQ(0, count_all(self, DRM_VSVM_PLACE_DEVICE));
	EXPECT_EQ(0, vsvm_count(&self->gpu, mem, self->size,
				DRM_VSVM_PLACE_DEVICE));
	EXPECT_EQ(NPAGES, vsvm_count(&self->gpu, mem + size - self->size,
				     self->size, DRM_VSVM_PLACE_DEVICE));
	EXPECT_EQ(sum, vsvm_checksum(mem, size));
	munmap(mem, size);
	EXPECT_EQ(0, vsvm_wait_used(self->gpu.fd, 0));
}

/* Memory as large as the device's, in it. */
static char *fill_device(struct _test_data_svm *self)
{
	size_t size = self->gpu.query.vram_size;
	char *mem = vsvm_alloc(size, self->gpu.query.chunk_size);

	if (!mem)
		return NULL;
	vsvm_fill(mem, size, 13);
	if (vsvm_prefetch(&self->gpu, mem, size, DRM_VSVM_PLACE_DEVICE)) {
		munmap(mem, size);
		return NULL;
	}
	return mem;
}

static uint64_t used(struct _test_data_svm *self)
{
	struct drm_vsvm_stats stats;

	return vsvm_stats(self->gpu.fd, &stats) ? ~0ULL : stats.vram_used;
}

static long long failures(struct _test_data_svm *self)
{
	return vsvm_region_figure(self->gpu.query.device, "to-devmem-fails");
}

/*
 * With the device full, room is made first: no migration unmaps its pages, only
 * to find that there is none, and to map them again.
 */
TEST_F_TIMEOUT(svm, eviction_comes_first, TIMEOUT)
{
	size_t size = self->gpu.query.vram_size;
	struct drm_vsvm_stats before, after;
	uint64_t sum, sum2;
	char *mem, *other;
	long long failed;

	mem = fill_device(self);
	ASSERT_NE(NULL, mem);
	other = vsvm_alloc(2 * size, self->gpu.query.chunk_size);
	ASSERT_NE(NULL, other);
	vsvm_fill(other, size, 14);
	sum = vsvm_checksum(other, size);
	EXPECT_EQ(size, used(self));
	failed = failures(self);
	ASSERT_LE(0, failed);
	ASSERT_EQ(0, vsvm_stats(self->gpu.fd, &before));

	/* By the process, by the GPU, and what was never touched. */
	EXPECT_EQ(0, vsvm_prefetch(&self->gpu, other, size / 2,
				   DRM_VSVM_PLACE_DEVICE));
	EXPECT_EQ(0, vsvm_gpu_checksum(&self->gpu, other + size / 2, size / 2,
				       &sum2));
	EXPECT_EQ(0, vsvm_prefetch(&self->gpu, other + size, size,
				   DRM_VSVM_PLACE_DEVICE));

	EXPECT_EQ(failed, failures(self));
	ASSERT_EQ(0, vsvm_stats(self->gpu.fd, &after));
	EXPECT_LT(before.evictions, after.evictions);
	EXPECT_EQ(sum, vsvm_checksum(other, size));
	EXPECT_EQ(-1, vsvm_verify_value(other + size, size, 0));
	EXPECT_EQ(-1, vsvm_verify(mem, size, 13));
	munmap(mem, size);
	munmap(other, 2 * size);
	EXPECT_EQ(0, vsvm_wait_used(self->gpu.fd, 0));
}

/* Memory is taken from others only for pages that are not there. */
TEST_F_TIMEOUT(svm, eviction_for_the_missing, TIMEOUT)
{
	size_t size = self->gpu.query.vram_size, chunk;
	struct drm_vsvm_prefetch args;
	char *mem;

	chunk = self->gpu.query.chunk_size;
	args = prefetch_args(self->gpu.vm, self->mem, self->size,
			     DRM_VSVM_PLACE_DEVICE);
	args.fault_window = self->page_size;
	mem = fill_device(self);
	ASSERT_NE(NULL, mem);
	vsvm_fill(self->mem, self->size, 15);
	ASSERT_EQ(0, vsvm_ioctl(self->gpu.fd, DRM_IOCTL_VSVM_PREFETCH, &args));
	EXPECT_EQ(size - chunk + self->size, used(self));
	ASSERT_EQ(0, vsvm_prefetch(&self->gpu, mem, chunk - self->size,
				   DRM_VSVM_PLACE_DEVICE));
	EXPECT_EQ(size, used(self));

	ASSERT_EQ(0, bring_page_back(self, 9));
	ASSERT_EQ(0, bring_page_back(self, 11));
	ASSERT_EQ(2, count_all(self, DRM_VSVM_PLACE_SYSTEM));
	ASSERT_EQ(0, vsvm_ioctl(self->gpu.fd, DRM_IOCTL_VSVM_PREFETCH, &args));
	EXPECT_EQ(2, args.moved);
	EXPECT_EQ(NPAGES - 2, args.resident);
	EXPECT_EQ(NPAGES, count_all(self, DRM_VSVM_PLACE_DEVICE));
	/* One allocation went, and two pages came. */
	EXPECT_EQ(size - chunk + 2 * self->page_size, used(self));

	munmap(mem, size);
	EXPECT_EQ(-1, vsvm_verify(self->mem, self->size, 15));
	EXPECT_EQ(0, bring_back(self));
	EXPECT_EQ(0, vsvm_wait_used(self->gpu.fd, 0));
}

/* The oldest allocation is that of the rest of the range, which then moves, too. */
TEST_F_TIMEOUT(svm, eviction_of_the_rest, TIMEOUT)
{
	size_t size = self->gpu.query.vram_size;
	char *mem;

	vsvm_fill(self->mem, self->size, 17);
	ASSERT_EQ(0, vsvm_prefetch(&self->gpu, self->mem, self->size / 2,
				   DRM_VSVM_PLACE_DEVICE));
	mem = vsvm_alloc(size, self->gpu.query.chunk_size);
	ASSERT_NE(NULL, mem);
	vsvm_fill(mem, size, 18);
	ASSERT_EQ(0, vsvm_prefetch(&self->gpu, mem, size - self->size / 2,
				   DRM_VSVM_PLACE_DEVICE));
	EXPECT_EQ(NPAGES / 2, count_all(self, DRM_VSVM_PLACE_DEVICE));
	EXPECT_EQ(size, used(self));

	EXPECT_EQ(0, to_device(self));
	EXPECT_EQ(NPAGES, count_all(self, DRM_VSVM_PLACE_DEVICE));
	EXPECT_EQ(-1, vsvm_verify(self->mem, self->size, 17));
	EXPECT_EQ(-1, vsvm_verify(mem, size, 18));
	EXPECT_EQ(0, bring_back(self));
	munmap(mem, size);
	EXPECT_EQ(0, vsvm_wait_used(self->gpu.fd, 0));
}

/* Memory that was made free for pages which cannot move is free. */
TEST_F_TIMEOUT(svm, eviction_for_pinned_pages, TIMEOUT)
{
	size_t size = self->gpu.query.vram_size, chunk;
	struct drm_vsvm_prefetch args;
	struct iovec iov = {
		.iov_base = self->mem + self->page_size,
		.iov_len = 3 * self->page_size,
	};
	int pipes[2];
	char *mem;

	chunk = self->gpu.query.chunk_size;
	args = prefetch_args(self->gpu.vm, self->mem, self->size,
			     DRM_VSVM_PLACE_DEVICE);
	args.flags = DRM_VSVM_PREFETCH_PARTIAL;
	mem = fill_device(self);
	ASSERT_NE(NULL, mem);
	vsvm_fill(self->mem, self->size, 16);
	ASSERT_EQ(0, pipe(pipes));
	ASSERT_EQ((ssize_t)iov.iov_len, vmsplice(pipes[1], &iov, 1, 0));

	EXPECT_EQ(0, vsvm_ioctl(self->gpu.fd, DRM_IOCTL_VSVM_PREFETCH, &args));
	EXPECT_EQ(3, args.left);
	EXPECT_EQ(NPAGES - 3, args.moved);
	EXPECT_EQ(size - chunk + self->size - iov.iov_len, used(self));

	close(pipes[0]);
	close(pipes[1]);
	EXPECT_EQ(0, vsvm_ioctl(self->gpu.fd, DRM_IOCTL_VSVM_PREFETCH, &args));
	EXPECT_EQ(NPAGES, count_all(self, DRM_VSVM_PLACE_DEVICE));
	munmap(mem, size);
	EXPECT_EQ(-1, vsvm_verify(self->mem, self->size, 16));
	EXPECT_EQ(0, bring_back(self));
	EXPECT_EQ(0, vsvm_wait_used(self->gpu.fd, 0));
}

static int evict_in_child(struct _test_data_svm *self, uint64_t seed)
{
	size_t size = self->gpu.query.vram_size;
	struct drm_vsvm_prefetch args;
	uint64_t sum;
	char *mem;
	int i, ret;

	if (vsvm_vm_create(self->gpu.fd, &self->gpu.vm))
		return 1;
	mem = vsvm_alloc(size, self->gpu.query.chunk_size);
	if (!mem)
		return 2;
	vsvm_fill(mem, size, seed);
	sum = vsvm_checksum(mem, size);

	/* Pages that the other process evicts right now cannot be moved. */
	args = prefetch_args(self->gpu.vm, mem, size, DRM_VSVM_PLACE_DEVICE);
	args.flags = DRM_VSVM_PREFETCH_PARTIAL;
	for (i = 0; i < 3; i++) {
		ret = vsvm_ioctl(self->gpu.fd, DRM_IOCTL_VSVM_PREFETCH, &args);
		if (ret && ret != -ENOSPC)
			return 3;
	}
	return vsvm_checksum(mem, size) != sum;
}

/* Two processes that each want all of the memory. */
TEST_F_TIMEOUT(svm, eviction_race, TIMEOUT)
{
	int status, i;
	pid_t pid[2];

	for (i = 0; i < 2; i++) {
		pid[i] = fork();
		ASSERT_LE(0, pid[i]);
		if (!pid[i])
			_exit(evict_in_child(self, 20 + i));
	}
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(pid[i], waitpid(pid[i], &status, 0));
		EXPECT_EQ(0, status);
	}
	EXPECT_EQ(0, vsvm_wait_used(self->gpu.fd, 0));
}

/* Memory belongs to the process, not to the file. */
TEST_F(svm, close_keeps_memory)
{
	uint64_t sum;

	vsvm_fill(self->mem, self->size, 13);
	sum = vsvm_checksum(self->mem, self->size);
	ASSERT_EQ(0, to_device(self));
	close(self->gpu.fd);

	self->gpu.fd = vsvm_open(0);
	ASSERT_LE(0, self->gpu.fd);
	ASSERT_EQ(0, vsvm_vm_create(self->gpu.fd, &self->gpu.vm));
	EXPECT_EQ(NPAGES, count_all(self, DRM_VSVM_PLACE_DEVICE));
	EXPECT_EQ(0, vsvm_fdinfo(self->gpu.fd, "drm-total-vram"));
	EXPECT_EQ(sum, vsvm_checksum(self->mem, self->size));
	EXPECT_EQ(0, bring_back(self));
	EXPECT_EQ(0, vsvm_wait_used(self->gpu.fd, self->gpu.stats.vram_used));
}

TEST_F(svm, fdinfo)
{
	struct drm_vsvm_prefetch args = prefetch_args(self->gpu.vm, self->mem,
						      self->size,
						      DRM_VSVM_PLACE_DEVICE);
	long long size = self->size;

	EXPECT_EQ(0, vsvm_fdinfo(self->gpu.fd, "drm-total-vram"));
	EXPECT_EQ(0, vsvm_fdinfo(self->gpu.fd, "drm-resident-vram"));

	args.fault_window = self->page_size;
	ASSERT_EQ(0, vsvm_ioctl(self->gpu.fd, DRM_IOCTL_VSVM_PREFETCH, &args));
	EXPECT_EQ(size, vsvm_fdinfo(self->gpu.fd, "drm-total-vram"));
	EXPECT_EQ(size, vsvm_fdinfo(self->gpu.fd, "drm-resident-vram"));

	ASSERT_EQ(0, bring_page_back(self, 0));
	EXPECT_EQ(size, vsvm_fdinfo(self->gpu.fd, "drm-total-vram"));
	EXPECT_EQ(size - (long long)self->page_size,
		  vsvm_fdinfo(self->gpu.fd, "drm-resident-vram"));

	munmap(self->mem, self->size);
	EXPECT_EQ(0, vsvm_wait_used(self->gpu.fd, self->gpu.stats.vram_used));
	EXPECT_EQ(0, vsvm_fdinfo(self->gpu.fd, "drm-total-vram"));
}

TEST_F(svm, debugfs)
{
	struct drm_vsvm_prefetch args = prefetch_args(self->gpu.vm, self->mem,
						      self->size,
						      DRM_VSVM_PLACE_DEVICE);
	const char *name = vsvm_coherent(&self->gpu) ? "pages-evicted" :
						       "pages-faulted";
	long long resident = vsvm_region_figure(0, "resident");
	long long back = vsvm_region_figure(0, name);
	long long npages = self->size / self->page_size;

	if (resident < 0)
		SKIP(return, "needs debugfs, and the right to read it");

	args.fault_window = self->page_size;
	ASSERT_EQ(0, vsvm_ioctl(self->gpu.fd, DRM_IOCTL_VSVM_PREFETCH, &args));
	EXPECT_EQ(resident + npages, vsvm_region_figure(0, "resident"));
	ASSERT_EQ(0, bring_page_back(self, 0));
	EXPECT_EQ(resident + npages - 1, vsvm_region_figure(0, "resident"));
	EXPECT_EQ(back + 1, vsvm_region_figure(0, name));
}

static FILE *debugfs_open(const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/kernel/debug/dri/vsvm.0/%s", name);
	return fopen(path, "r");
}

struct pool_figures {
	unsigned long pages;
	unsigned long free;
	unsigned long evictable;
	unsigned long retired;
	unsigned long evictions;
	unsigned long gpu_faults;
	unsigned long jobs;
};

static int read_pool(struct pool_figures *pool)
{
	FILE *file = debugfs_open("vsvm-pool");
	int n;

	if (!file)
		return -errno;
	n = fscanf(file, "pages: %lu, free: %lu, evictable allocations: %lu",
		   &pool->pages, &pool->free, &pool->evictable);
	n += fscanf(file, " broken pages taken out of use: %lu", &pool->retired);
	n += fscanf(file, " evictions: %lu, page faults: %lu, jobs: %lu",
		    &pool->evictions, &pool->gpu_faults, &pool->jobs);
	fclose(file);
	return n == 7 ? 0 : -EIO;
}

TEST_F(svm, debugfs_pool)
{
	struct pool_figures before, after;
	int ret = read_pool(&before);

	if (ret == -ENOENT || ret == -EACCES)
		SKIP(return, "needs debugfs, and the right to read it");
	ASSERT_EQ(0, ret);
	EXPECT_EQ(self->gpu.query.vram_size / self->page_size, before.pages);
	ASSERT_EQ(0, to_device(self));
	ASSERT_EQ(0, read_pool(&after));
	EXPECT_EQ(before.free - NPAGES, after.free);
	EXPECT_EQ(before.evictable + 1, after.evictable);
	EXPECT_EQ(0, after.retired);
}

/* What the files count, the device does. */
TEST_F_TIMEOUT(svm, debugfs_pool_counts, TIMEOUT)
{
	struct pool_figures before, after;
	struct drm_vsvm_stats stats;
	int ret = read_pool(&before);
	char *mem;

	if (ret == -ENOENT || ret == -EACCES)
		SKIP(return, "needs debugfs, and the right to read it");
	ASSERT_EQ(0, ret);
	ASSERT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem, self->size, 1));
	ASSERT_EQ(EFAULT, vsvm_gpu_fill(&self->gpu, NULL, 8, 1));
	mem = fill_device(self);
	ASSERT_NE(NULL, mem);

	ASSERT_EQ(0, vsvm_stats(self->gpu.fd, &stats));
	ASSERT_EQ(0, read_pool(&after));
	EXPECT_EQ(1, after.evictions - before.evictions);
	EXPECT_EQ(1, stats.evictions);
	EXPECT_LE(2, after.gpu_faults - before.gpu_faults);
	EXPECT_EQ(stats.gpu_faults, after.gpu_faults - before.gpu_faults);
	EXPECT_EQ(2, after.jobs - before.jobs);
	munmap(mem, self->gpu.query.vram_size);
}

struct vm_figures {
	unsigned int vms;
	unsigned int jobs;
	/* Ranges of this process that contain @addr, and their properties. */
	unsigned int ranges;
	char flags[32];
};

/* The figures of debugfs for the VMs of this process. */
static int read_vms(const void *addr, struct vm_figures *vms)
{
	FILE *file = debugfs_open("vsvm-vms");
	unsigned long start, end;
	unsigned int jobs;
	bool mine = false;
	char line[128];
	int n, pid;

	if (!file)
		return -errno;
	memset(vms, 0, sizeof(*vms));
	while (fgets(line, sizeof(line), file)) {
		n = 0;
		if (sscanf(line, "vm %*u: pid: %d", &pid) == 1) {
			mine = pid == getpid();
			vms->vms += mine;
		} else if (mine && sscanf(line, " jobs: %u,", &jobs) == 1) {
			vms->jobs += jobs;
		} else if (mine &&
			   sscanf(line, " %lx-%lx%n", &start, &end, &n) == 2 &&
			   start <= (uintptr_t)addr && (uintptr_t)addr < end) {
			vms->ranges++;
			snprintf(vms->flags, sizeof(vms->flags), "%s", line + n);
		}
	}
	fclose(file);
	return 0;
}

TEST_F(svm, debugfs_vms)
{
	struct vm_figures vms;
	int ret = read_vms(self->mem, &vms);

	if (ret == -ENOENT || ret == -EACCES)
		SKIP(return, "needs debugfs, and the right to read it");
	ASSERT_EQ(0, ret);
	EXPECT_EQ(1, vms.vms);
	EXPECT_EQ(0, vms.ranges);

	ASSERT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem, self->size, 1));
	ASSERT_EQ(0, read_vms(self->mem, &vms));
	EXPECT_EQ(1, vms.vms);
	EXPECT_EQ(1, vms.jobs);
	EXPECT_EQ(1, vms.ranges);
	EXPECT_STREQ(" mapped device\n", vms.flags);

	/* Everything comes back. */
	ASSERT_EQ(0, bring_back(self));
	ASSERT_EQ(0, read_vms(self->mem, &vms));
	EXPECT_EQ(1, vms.ranges);
	EXPECT_EQ(NULL, strstr(vms.flags, "mapped device"));
}

/* Objects that only device pages refer to are no leaks. */
TEST_F_TIMEOUT(svm, kmemleak, TIMEOUT)
{
	static const char path[] = "/sys/kernel/debug/kmemleak";
	char line[128];
	FILE *file;

	if (vsvm_write_file(path, "scan"))
		SKIP(return, "needs kmemleak, and the right to use it");
	ASSERT_EQ(0, to_device(self));
	/* Objects younger than five seconds are not judged. */
	sleep(6);
	/* The first scan sees what has changed since it was allocated. */
	ASSERT_EQ(0, vsvm_write_file(path, "scan"));
	ASSERT_EQ(0, vsvm_write_file(path, "scan"));
	file = fopen(path, "r");
	ASSERT_NE(NULL, file);
	while (fgets(line, sizeof(line), file)) {
		EXPECT_EQ(NULL, strstr(line, "drm_")) {
			TH_LOG("kmemleak: %s", line);
		}
	}
	fclose(file);
}

TEST_F_TIMEOUT(svm, unbind, TIMEOUT)
{
	struct drm_vsvm_query query;
	struct drm_vsvm_stats stats;
	struct drm_vsvm_job_status status;
	struct drm_vsvm_op op;
	uint64_t sum;
	uint32_t vm;
	int fd;

	vsvm_fill(self->mem, self->size, 14);
	op = vsvm_op_fill(self->mem, sizeof(uint64_t), 0);
	sum = vsvm_checksum(self->mem, self->size);
	ASSERT_EQ(0, to_device(self));
	ASSERT_EQ(0, vsvm_bind(0, false));

	EXPECT_EQ(-ENODEV, vsvm_query(self->gpu.fd, &query));
	EXPECT_EQ(-ENODEV, vsvm_ioctl(self->gpu.fd, DRM_IOCTL_VSVM_STATS,
				      &stats));
	EXPECT_EQ(-ENODEV, to_device(self));
	EXPECT_EQ(-ENODEV, vsvm_vm_create(self->gpu.fd, &vm));
	EXPECT_EQ(-ENODEV, vsvm_vm_destroy(self->gpu.fd, self->gpu.vm));
	EXPECT_EQ(-ENODEV, count_all(self, DRM_VSVM_PLACE_DEVICE));
	EXPECT_EQ(-ENODEV, vsvm_advise(&self->gpu, self->mem, self->size, 0));
	EXPECT_EQ(-ENODEV, vsvm_exec(&self->gpu, &op, 1, NULL, 0, NULL));
	EXPECT_EQ(-ENODEV, vsvm_job_status(&self->gpu, 1, &status));
	EXPECT_EQ(-1, vsvm_fdinfo(self->gpu.fd, "drm-total-vram"));
	EXPECT_EQ(-ENODEV, vsvm_open(0));
	EXPECT_EQ(sum, vsvm_checksum(self->mem, self->size));

	/* The old file stays open, and dead. */
	ASSERT_EQ(0, vsvm_bind(0, true));
	EXPECT_EQ(-ENODEV, vsvm_query(self->gpu.fd, &query));
	fd = vsvm_open(0);
	ASSERT_LE(0, fd);
	close(self->gpu.fd);
	self->gpu.fd = fd;
	ASSERT_EQ(0, vsvm_vm_create(self->gpu.fd, &self->gpu.vm));
	ASSERT_EQ(0, vsvm_stats(self->gpu.fd, &stats));
	EXPECT_EQ(0, stats.vram_used);
	ASSERT_EQ(0, to_device(self));
	EXPECT_EQ(NPAGES, count_all(self, DRM_VSVM_PLACE_DEVICE));
	EXPECT_EQ(sum, vsvm_checksum(self->mem, self->size));
}

TEST_F(svm, peer)
{
	struct drm_vsvm_prefetch args;
	int first = self->gpu.fd, second;
	uint32_t first_vm = self->gpu.vm, vm;
	uint64_t sum;

	second = vsvm_open(1);
	if (second < 0)
		SKIP(return, "one device only");
	ASSERT_EQ(0, vsvm_vm_create(second, &vm));

	vsvm_fill(self->mem, self->size, 15);
	sum = vsvm_checksum(self->mem, self->size);
	ASSERT_EQ(0, to_device(self));

	/* The same memory, seen and handled by the second device. */
	self->gpu.fd = second;
	self->gpu.vm = vm;
	EXPECT_EQ(NPAGES, count_all(self, DRM_VSVM_PLACE_PEER));
	ASSERT_EQ(0, look(self));
	EXPECT_EQ(0, self->pages[0].device);
	EXPECT_EQ(0, vsvm_prefetch(&self->gpu, self->mem, self->size,
				   DRM_VSVM_PLACE_SYSTEM));
	EXPECT_EQ(NPAGES, count_all(self, DRM_VSVM_PLACE_SYSTEM));

	self->gpu.fd = first;
	self->gpu.vm = first_vm;
	ASSERT_EQ(0, to_device(self));
	self->gpu.fd = second;
	self->gpu.vm = vm;
	args = prefetch_args(vm, self->mem, self->size, DRM_VSVM_PLACE_DEVICE);
	ASSERT_EQ(0, vsvm_ioctl(second, DRM_IOCTL_VSVM_PREFETCH, &args));
	EXPECT_EQ(NPAGES, args.moved);
	EXPECT_EQ(0, args.left);
	EXPECT_EQ(NPAGES, count_all(self, DRM_VSVM_PLACE_DEVICE));
	ASSERT_EQ(0, look(self));
	EXPECT_EQ(1, self->pages[0].device);
	EXPECT_EQ(sum, vsvm_checksum(self->mem, self->size));
	close(first);
}

/*
 * Trace events, in a buffer of our own.
 */

#define TRACE		"/sys/kernel/tracing/instances/vsvm_test"
#define EVENT_PAGES	16
#define WINDOW		4	/* pages that a CPU fault brings back */

FIXTURE(trace)
{
	struct vsvm_gpu gpu;
	size_t page;
	size_t size;
	char *mem;
};

FIXTURE_SETUP(trace)
{
	/* It may be left of a run that was ended. */
	rmdir(TRACE);
	if (mkdir(TRACE, 0755))
		SKIP(return, "needs tracefs, and the right to write to it");
	/* The clocks of two CPUs may differ, and events with them change places. */
	ASSERT_EQ(0, vsvm_write_file(TRACE "/trace_clock", "counter"));
	ASSERT_EQ(0, vsvm_write_file(TRACE "/events/vsvm/enable", "1"));
	ASSERT_EQ(0, vsvm_write_file(TRACE "/events/drm_pagemap/enable", "1"));
	ASSERT_EQ(0, vsvm_gpu_open(&self->gpu, 0));
	ASSERT_EQ(0, vsvm_wait_used(self->gpu.fd, 0));
	self->page = getpagesize();
	self->size = EVENT_PAGES * self->page;
	self->mem = vsvm_alloc(self->size, self->gpu.query.chunk_size);
	ASSERT_NE(NULL, self->mem);
	vsvm_fill(self->mem, self->size, 1);
}

FIXTURE_TEARDOWN(trace)
{
	munmap(self->mem, self->size);
	vsvm_gpu_close(&self->gpu);
	EXPECT_EQ(0, rmdir(TRACE));
}

/*
 * The arguments of the last event of that name whose arguments begin with a text
 * and have another one in them; empty if there is none
 */
static char *last_event(const char *name, const char *begin, const char *with)
{
	static char args[256];
	FILE *file = fopen(TRACE "/trace", "r");
	char line[256], *found;

	args[0] = 0;
	if (!file)
		return args;
	while (fgets(line, sizeof(line), file)) {
		found = strstr(line, name);
		if (!found || strncmp(found + strlen(name), ": ", 2))
			continue;
		found += strlen(name) + 2;
		if (!strncmp(found, begin, strlen(begin)) && strstr(found, with))
			snprintf(args, sizeof(args), "%s", found);
	}
	fclose(file);
	return args;
}

/* An address as events have it, with the name of the field */
static const char *field(const char *name, const void *addr)
{
	static char text[32];

	snprintf(text, sizeof(text), "%s=%#lx ", name, (unsigned long)addr);
	return text;
}

/* Prefetch what can be moved, and compare with what the events tell. */
static void expect_prefetch(struct __test_metadata *_metadata,
			    struct _test_data_trace *self,
			    unsigned long from_peers)
{
	unsigned long start, end, moved, peers, resident, left;
	struct drm_vsvm_prefetch args = {
		.vm_id = self->gpu.vm,
		.flags = DRM_VSVM_PREFETCH_PARTIAL,
		.start = (uintptr_t)self->mem,
		.size = self->size,
		.place = DRM_VSVM_PLACE_DEVICE,
		.fault_window = WINDOW * self->page,
	};
	int ret;

	EXPECT_EQ(0, vsvm_ioctl(self->gpu.fd, DRM_IOCTL_VSVM_PREFETCH, &args));
	EXPECT_TRUE(sscanf(last_event("drm_pagemap_migrate_begin",
				      field("start", self->mem), "flags="),
			   "start=%lx end=%lx", &start, &end) == 2);
	EXPECT_EQ(args.start, start);
	EXPECT_EQ(args.start + args.size, end);

	EXPECT_TRUE(sscanf(last_event("drm_pagemap_migrate_end",
				      field("start", self->mem), ""),
			   "start=%lx end=%lx moved=%lu from_peers=%lu resident=%lu left=%lu result=%d",
			   &start, &end, &moved, &peers, &resident, &left,
			   &ret) == 7);
	EXPECT_EQ(args.start, start);
	EXPECT_EQ(args.start + args.size, end);
	EXPECT_EQ(0, ret);
	EXPECT_EQ(args.moved, moved);
	EXPECT_EQ(args.resident, resident);
	EXPECT_EQ(args.left, left);
	EXPECT_EQ(from_peers, peers);
}

TEST_F_TIMEOUT(trace, migration, TIMEOUT)
{
	unsigned long addr, start, end, moved;
	char *window = self->mem + WINDOW * self->page;
	size_t all = self->gpu.query.vram_size;
	struct vsvm_gpu peer = {};
	struct iovec iov = { window + 3 * self->page, self->page };
	int pipes[2], ret;
	char *other, text[32];

	expect_prefetch(_metadata, self, 0);

	/* A part comes back. */
	if (vsvm_coherent(&self->gpu)) {
		ASSERT_EQ(0, vsvm_bring_back(&self->gpu, window,
					     WINDOW * self->page));
	} else {
		vsvm_touch(window + self->page);
		EXPECT_TRUE(sscanf(last_event("drm_pagemap_fault", "dev=vsvm.0 ", ""),
				   "dev=%*s addr=%lx start=%lx end=%lx moved=%lu result=%d",
				   &addr, &start, &end, &moved, &ret) == 5);
		EXPECT_EQ((uintptr_t)window + self->page, addr);
		EXPECT_EQ((uintptr_t)window, start);
		EXPECT_EQ((uintptr_t)window + WINDOW * self->page, end);
		EXPECT_EQ(WINDOW, moved);
		EXPECT_EQ(0, ret);
	}

	/* Two of these pages go to the peer, and one must not move. */
	ret = vsvm_gpu_open(&peer, 1);
	if (!ret)
		EXPECT_EQ(0, vsvm_prefetch(&peer, window, 2 * self->page,
					   DRM_VSVM_PLACE_DEVICE));
	ASSERT_EQ(0, pipe(pipes));
	ASSERT_EQ((ssize_t)self->page, vmsplice(pipes[1], &iov, 1, 0));
	expect_prefetch(_metadata, self, ret ? 0 : 2);
	close(pipes[0]);
	close(pipes[1]);
	if (!ret)
		vsvm_gpu_close(&peer);

	/* What is gone needs no eviction. */
	ASSERT_EQ(0, munmap(self->mem, self->page));
	other = vsvm_alloc(all, self->gpu.query.chunk_size);
	ASSERT_NE(NULL, other);
	vsvm_fill(other, all, 2);
	ASSERT_EQ(0, vsvm_prefetch(&self->gpu, other, all,
				   DRM_VSVM_PLACE_DEVICE));
	snprintf(text, sizeof(text), " npages=%u ", EVENT_PAGES);
	EXPECT_TRUE(sscanf(last_event("drm_pagemap_evict", "dev=vsvm.0 ", text),
			   "dev=%*s npages=%*u moved=%lu result=%d", &moved,
			   &ret) == 2);
	EXPECT_EQ(EVENT_PAGES - WINDOW - 1, moved);
	EXPECT_EQ(0, ret);
	munmap(other, all);

	EXPECT_EQ(0, vsvm_wait_used(self->gpu.fd, 0));
	snprintf(text, sizeof(text), " size=%zu\n", self->size);
	EXPECT_STRNE("", last_event("drm_pagemap_release", "dev=vsvm.0 ", text));
}

/* A job whose last operation fails */
TEST_F_TIMEOUT(trace, job, TIMEOUT)
{
	unsigned long long vm, other_vm, job, address;
	struct drm_vsvm_job_status status;
	unsigned int num_ops, op, tries, write, event, unmap_event;
	unsigned long addr, start, end;
	struct drm_vsvm_op ops[] = {
		vsvm_op_fill(self->mem, self->size, 2),
		vsvm_op_fill(self->mem, self->size, 3),
		vsvm_op_checksum(self->mem - self->page, 8, self->gpu.result),
	};
	char *cut = self->mem + 2 * self->page;
	int result;

	ASSERT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem, 8, 1));
	EXPECT_TRUE(sscanf(last_event("vsvm_gpu_fault", "vm=",
				      field("addr", self->mem)),
			   "vm=%llu addr=%lx write=%u tries=%u result=%d", &vm,
			   &addr, &write, &tries, &result) == 5);
	EXPECT_EQ(1, write);
	EXPECT_LE(1, tries);
	EXPECT_EQ(0, result);

	ASSERT_LT(0, vsvm_run(&self->gpu, ops, ARRAY_SIZE(ops), &status));
	EXPECT_TRUE(sscanf(last_event("vsvm_job_begin", "vm=", ""),
			   "vm=%llu job=%llu num_ops=%u", &other_vm, &job,
			   &num_ops) == 3);
	EXPECT_EQ(vm, other_vm);
	EXPECT_EQ(status.job, job);
	EXPECT_EQ(ARRAY_SIZE(ops), num_ops);
	EXPECT_TRUE(sscanf(last_event("vsvm_job_end", "vm=", ""),
			   "vm=%llu job=%llu error=%d op=%u address=%llx",
			   &other_vm, &job, &result, &op, &address) == 5);
	EXPECT_EQ(vm, other_vm);
	EXPECT_EQ(status.job, job);
	EXPECT_EQ(status.error, -result);
	EXPECT_EQ(ARRAY_SIZE(ops) - 1, op);
	EXPECT_EQ(status.op, op);
	EXPECT_EQ((uintptr_t)self->mem - self->page, address);
	EXPECT_TRUE(sscanf(last_event("vsvm_gpu_fault", "vm=",
				      field("addr", self->mem - self->page)),
			   "vm=%llu addr=%lx write=%u tries=%u result=%d",
			   &other_vm, &addr, &write, &tries, &result) == 5);
	EXPECT_EQ(vm, other_vm);
	EXPECT_EQ(0, write);
	EXPECT_EQ(status.error, -result);

	ASSERT_EQ(0, mprotect(cut, 3 * self->page, PROT_READ));
	EXPECT_TRUE(sscanf(last_event("vsvm_invalidate", "vm=",
				      field("start", cut)),
			   "vm=%llu start=%lx end=%lx event=%u", &other_vm,
			   &start, &end, &event) == 4);
	EXPECT_EQ(vm, other_vm);
	EXPECT_EQ((uintptr_t)cut + 3 * self->page, end);
	ASSERT_EQ(0, munmap(cut, 2 * self->page));
	EXPECT_TRUE(sscanf(last_event("vsvm_invalidate", "vm=",
				      field("start", cut)),
			   "vm=%llu start=%lx end=%lx event=%u", &other_vm,
			   &start, &end, &unmap_event) == 4);
	EXPECT_EQ(vm, other_vm);
	EXPECT_EQ((uintptr_t)cut + 2 * self->page, end);
	EXPECT_NE(event, unmap_event);
}

TEST_HARNESS_MAIN
