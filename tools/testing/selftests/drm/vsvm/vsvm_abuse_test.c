// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tests with careless and with hostile user space: garbage in each field of
 * each ioctl and of each operation, structures of any size, pointers to
 * anywhere, and processes that end at any time.  An ioctl fails with the
 * documented error, and nothing is left behind.
 */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <drm/drm.h>

#include "../../kselftest_harness.h"
#include "vsvm_util.h"

#define TIMEOUT		300
#define NPAGES		16
#define KERNEL_ADDRESS	0xffff888000001000ULL
#define CANARY		0xa5

/* Fields, and the result of garbage in them. */
enum kind {
	NONE,
	ZERO,		/* -EINVAL unless zero */
	FLAG,		/* the same, but for bit 0 */
	HANDLE,		/* -ENOENT unless it is the VM */
	OUT,		/* nothing */
	ANY,		/* any error, or nothing */
};

struct field {
	const char *name;
	size_t offset;
	size_t size;
	enum kind kind;
};

#define FIELD(type, member, k)						\
	FIELD_AT(#member, ((struct type *)0)->member, k)

#define FIELD_AT(text, at, k) {						\
	.name = (text),							\
	.offset = (size_t)&(at),					\
	.size = sizeof(at),						\
	.kind = (k),							\
}

#define MAX_FIELDS	16
#define MAX_ARGS	256

FIXTURE(abuse)
{
	struct vsvm_gpu gpu;
	size_t page;
	size_t size;
	char *mem;
	/* Beside it, and never given to the device. */
	char *bystander;
	/* Valid arguments of the ioctl that is called. */
	uint64_t args[MAX_ARGS / 8];
	struct drm_vsvm_op op;
	struct drm_vsvm_sync sync;
	struct drm_vsvm_page pages[NPAGES];
	uint64_t job;
};

typedef void (*args_fn)(struct _test_data_abuse *self, void *args);

FIXTURE_VARIANT(abuse)
{
	unsigned long request;
	args_fn fill;
	struct field fields[MAX_FIELDS];
};

/* For ioctls without parameters. */
static void no_args(struct _test_data_abuse *self, void *args)
{
	memset(args, 0, sizeof(self->args));
}

/* A new VM each time. */
static void destroy_args(struct _test_data_abuse *self, void *args)
{
	struct drm_vsvm_vm_destroy *destroy = args;

	*destroy = (struct drm_vsvm_vm_destroy) {};
	vsvm_vm_create(self->gpu.fd, &destroy->vm_id);
}

static void prefetch_args(struct _test_data_abuse *self, void *args)
{
	*(struct drm_vsvm_prefetch *)args = (struct drm_vsvm_prefetch) {
		.vm_id = self->gpu.vm,
		.start = (uintptr_t)self->mem,
		.size = self->size,
		.place = DRM_VSVM_PLACE_DEVICE,
	};
}

static void residency_args(struct _test_data_abuse *self, void *args)
{
	*(struct drm_vsvm_residency *)args = (struct drm_vsvm_residency) {
		.vm_id = self->gpu.vm,
		.start = (uintptr_t)self->mem,
		.size = self->size,
		.pages = (uintptr_t)self->pages,
	};
}

static void advise_args(struct _test_data_abuse *self, void *args)
{
	*(struct drm_vsvm_advise *)args = (struct drm_vsvm_advise) {
		.vm_id = self->gpu.vm,
		.start = (uintptr_t)self->mem,
		.size = self->size,
	};
}

static void exec_args(struct _test_data_abuse *self, void *args)
{
	self->op = vsvm_op_fill(self->mem, 8, 1);
	*(struct drm_vsvm_exec *)args = (struct drm_vsvm_exec) {
		.vm_id = self->gpu.vm,
		.ops = (uintptr_t)&self->op,
		.syncs = (uintptr_t)&self->sync,
		.num_ops = 1,
		.num_syncs = 1,
	};
}

static void status_args(struct _test_data_abuse *self, void *args)
{
	*(struct drm_vsvm_job_status *)args = (struct drm_vsvm_job_status) {
		.vm_id = self->gpu.vm,
		.job = self->job,
	};
}

FIXTURE_VARIANT_ADD(abuse, query) {
	.request = DRM_IOCTL_VSVM_QUERY,
	.fill = no_args,
	.fields = {
		FIELD(drm_vsvm_query, flags, ZERO),
		FIELD(drm_vsvm_query, device, OUT),
		FIELD(drm_vsvm_query, vram_size, OUT),
		FIELD(drm_vsvm_query, max_ranges, OUT),
		FIELD(drm_vsvm_query, vram_flags, OUT),
	},
};

FIXTURE_VARIANT_ADD(abuse, stats) {
	.request = DRM_IOCTL_VSVM_STATS,
	.fill = no_args,
	.fields = {
		FIELD(drm_vsvm_stats, flags, ZERO),
		FIELD(drm_vsvm_stats, pad, ZERO),
		FIELD(drm_vsvm_stats, vram_used, OUT),
		FIELD(drm_vsvm_stats, jobs, OUT),
	},
};

FIXTURE_VARIANT_ADD(abuse, vm_create) {
	.request = DRM_IOCTL_VSVM_VM_CREATE,
	.fill = no_args,
	.fields = {
		FIELD(drm_vsvm_vm_create, flags, ZERO),
		FIELD(drm_vsvm_vm_create, vm_id, OUT),
	},
};

FIXTURE_VARIANT_ADD(abuse, vm_destroy) {
	.request = DRM_IOCTL_VSVM_VM_DESTROY,
	.fill = destroy_args,
	.fields = {
		FIELD(drm_vsvm_vm_destroy, vm_id, HANDLE),
		FIELD(drm_vsvm_vm_destroy, pad, ZERO),
	},
};

FIXTURE_VARIANT_ADD(abuse, prefetch) {
	.request = DRM_IOCTL_VSVM_PREFETCH,
	.fill = prefetch_args,
	.fields = {
		FIELD(drm_vsvm_prefetch, vm_id, HANDLE),
		FIELD(drm_vsvm_prefetch, flags, FLAG),
		FIELD(drm_vsvm_prefetch, start, ANY),
		FIELD(drm_vsvm_prefetch, size, ANY),
		FIELD(drm_vsvm_prefetch, place, ANY),
		FIELD(drm_vsvm_prefetch, timeslice_ms, ANY),
		FIELD(drm_vsvm_prefetch, fault_window, ANY),
		FIELD(drm_vsvm_prefetch, moved, OUT),
		FIELD(drm_vsvm_prefetch, resident, OUT),
		FIELD(drm_vsvm_prefetch, left, OUT),
	},
};

FIXTURE_VARIANT_ADD(abuse, residency) {
	.request = DRM_IOCTL_VSVM_RESIDENCY,
	.fill = residency_args,
	.fields = {
		FIELD(drm_vsvm_residency, vm_id, HANDLE),
		FIELD(drm_vsvm_residency, flags, ZERO),
		FIELD(drm_vsvm_residency, start, ANY),
		FIELD(drm_vsvm_residency, size, ANY),
		FIELD(drm_vsvm_residency, pages, ANY),
	},
};

FIXTURE_VARIANT_ADD(abuse, advise) {
	.request = DRM_IOCTL_VSVM_ADVISE,
	.fill = advise_args,
	.fields = {
		FIELD(drm_vsvm_advise, vm_id, HANDLE),
		FIELD(drm_vsvm_advise, flags, ZERO),
		FIELD(drm_vsvm_advise, start, ANY),
		FIELD(drm_vsvm_advise, size, ANY),
		FIELD(drm_vsvm_advise, advice, ANY),
		FIELD(drm_vsvm_advise, timeslice_ms, ANY),
		FIELD(drm_vsvm_advise, fault_window, ANY),
	},
};

FIXTURE_VARIANT_ADD(abuse, exec) {
	.request = DRM_IOCTL_VSVM_EXEC,
	.fill = exec_args,
	.fields = {
		FIELD(drm_vsvm_exec, vm_id, HANDLE),
		FIELD(drm_vsvm_exec, flags, ZERO),
		FIELD(drm_vsvm_exec, ops, ANY),
		FIELD(drm_vsvm_exec, syncs, ANY),
		FIELD(drm_vsvm_exec, num_ops, ANY),
		FIELD(drm_vsvm_exec, num_syncs, ANY),
		FIELD(drm_vsvm_exec, job, OUT),
	},
};

FIXTURE_VARIANT_ADD(abuse, job_status) {
	.request = DRM_IOCTL_VSVM_JOB_STATUS,
	.fill = status_args,
	.fields = {
		FIELD(drm_vsvm_job_status, vm_id, HANDLE),
		FIELD(drm_vsvm_job_status, pad, ZERO),
		FIELD(drm_vsvm_job_status, job, ANY),
		FIELD(drm_vsvm_job_status, error, OUT),
		FIELD(drm_vsvm_job_status, op, OUT),
		FIELD(drm_vsvm_job_status, address, OUT),
	},
};

/* Wait for all that is queued; the VM executes jobs in order. */
static int settle(struct vsvm_gpu *gpu, char *mem)
{
	return vsvm_gpu_fill(gpu, mem, 8, 1);
}

/* Put memory that the device cannot take at both ends of memory it may. */
static int make_borders(char *mem, size_t size, size_t page)
{
	void *border[] = { mem - page, mem + size };
	int i;

	for (i = 0; i < 2; i++)
		if (mmap(border[i], page, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0) !=
		    border[i])
			return -errno;
	return 0;
}

static int set_up(struct vsvm_gpu *gpu, size_t size, char **mem,
		  char **bystander)
{
	size_t page = getpagesize();
	int ret = vsvm_gpu_open(gpu, 0);

	if (ret)
		return ret;
	*mem = vsvm_alloc(size, 1 << 21);
	*bystander = vsvm_alloc(size, page);
	if (!*mem || !*bystander)
		return -ENOMEM;
	vsvm_fill(*bystander, size, 2);
	return make_borders(*mem, size, page);
}

/* Everything works as before. */
static void tear_down(struct __test_metadata *_metadata, struct vsvm_gpu *gpu,
		      size_t size, char *mem, char *bystander)
{
	EXPECT_EQ(-1, vsvm_verify(bystander, size, 2));
	EXPECT_EQ(0, vsvm_gpu_fill(gpu, mem, size, 3));
	EXPECT_EQ(-1, vsvm_verify_value(mem, size, 3));
	munmap(mem, size);
	EXPECT_EQ(0, vsvm_wait_used_ms(gpu->fd, gpu->stats.vram_used, 10000));
	munmap(bystander, size);
	vsvm_gpu_close(gpu);
}

FIXTURE_SETUP(abuse)
{
	self->page = getpagesize();
	self->size = NPAGES * self->page;
	ASSERT_EQ(0, set_up(&self->gpu, self->size, &self->mem,
			    &self->bystander));
	vsvm_fill(self->mem, self->size, 1);
	self->sync.flags = DRM_VSVM_SYNC_SIGNAL;
	ASSERT_EQ(0, vsvm_syncobj_create(self->gpu.fd, &self->sync.handle));
	self->op = vsvm_op_fill(self->mem, 8, 1);
	ASSERT_EQ(0, vsvm_exec(&self->gpu, &self->op, 1, NULL, 0, &self->job));
	ASSERT_EQ(0, settle(&self->gpu, self->mem));
}

FIXTURE_TEARDOWN(abuse)
{
	tear_down(_metadata, &self->gpu, self->size, self->mem,
		  self->bystander);
}

/* Errors that are documented for some ioctl and have no other cause. */
static bool is_clear(int ret)
{
	static const int clear[] = {
		0, EINVAL, EFAULT, ENOENT, E2BIG, EBUSY, ENOSPC, EOPNOTSUPP,
		ENOMEM,
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(clear); i++)
		if (ret == -clear[i])
			return true;
	return false;
}

#define NUM_GARBAGE	24

static uint64_t garbage(struct _test_data_abuse *self, int i)
{
	uintptr_t mem = (uintptr_t)self->mem;
	const uint64_t values[NUM_GARBAGE] = {
		0, 1, 2, 3, 4, 7, 8, 4095, 4096, mem, mem + 1, mem - 4096,
		mem + self->size, 1ULL << 31, 1ULL << 32, 1ULL << 47,
		(1ULL << 47) - 4096, 1ULL << 62, 1ULL << 63, KERNEL_ADDRESS,
		-1, -2, -8, -4096,
	};

	return values[i];
}

static void put(void *at, size_t size, uint64_t value)
{
	/* The byte order is that of the machine, which is little-endian. */
	memcpy(at, &value, size);
}

static uint64_t get(const void *at, size_t size)
{
	uint64_t value = 0;

	memcpy(&value, at, size);
	return value;
}

static bool as_documented(const struct field *field, uint64_t value, int ret)
{
	switch (field->kind) {
	case ZERO:
		return ret == -EINVAL;
	case FLAG:
		return value & ~1ULL ? ret == -EINVAL : ret == 0;
	case HANDLE:
		return ret == -ENOENT;
	case OUT:
		return ret == 0;
	default:
		return is_clear(ret);
	}
}

static void forget_vm(struct _test_data_abuse *self, unsigned long request)
{
	struct drm_vsvm_vm_create *create = (void *)self->args;

	if (request == DRM_IOCTL_VSVM_VM_CREATE && create->vm_id &&
	    create->vm_id != self->gpu.vm)
		vsvm_vm_destroy(self->gpu.fd, create->vm_id);
}

TEST_F_TIMEOUT(abuse, garbage_in_each_field, TIMEOUT)
{
	const struct field *field;
	uint64_t value, good;
	int i, ret;

	for (field = variant->fields; field->kind; field++) {
		for (i = 0; i < NUM_GARBAGE; i++) {
			variant->fill(self, self->args);
			good = get((char *)self->args + field->offset,
				   field->size);
			put((char *)self->args + field->offset, field->size,
			    garbage(self, i));
			value = get((char *)self->args + field->offset,
				    field->size);
			if (value == good)
				continue;
			/* Small numbers can be another VM. */
			if (field->kind == HANDLE && value &&
			    value <= self->gpu.query.max_vms)
				continue;
			ret = vsvm_ioctl(self->gpu.fd, variant->request,
					 self->args);
			EXPECT_TRUE(as_documented(field, value, ret)) {
				TH_LOG("%s = %#llx: %d", field->name,
				       (unsigned long long)value, ret);
			}
			if (!ret)
				forget_vm(self, variant->request);
		}
	}
	EXPECT_EQ(0, settle(&self->gpu, self->mem));
}

/* A structure of another version, or truncated anywhere. */
TEST_F_TIMEOUT(abuse, structure_of_any_size, TIMEOUT)
{
	size_t real = _IOC_SIZE(variant->request), size, i;
	size_t sizes[] = {
		0, 1, 3, 4, 7, 8, 12, 16, real - 8, real - 1, real, real + 1,
		real + 8, 1024, 16383,
	};
	unsigned char *buffer = malloc(32768);
	unsigned long request;
	int ret, dir;

	ASSERT_NE(NULL, buffer);
	for (i = 0; i < 4 * ARRAY_SIZE(sizes); i++) {
		size = sizes[i / 4];
		dir = i % 4;
		/* All directions, and none. */
		request = _IOC(dir, DRM_IOCTL_BASE, _IOC_NR(variant->request),
			       size);
		memset(self->args, 0, sizeof(self->args));
		variant->fill(self, self->args);
		memset(buffer, 0, 32768);
		memcpy(buffer, self->args, real < size ? real : size);
		memset(buffer + size, CANARY, 32768 - size);
		ret = vsvm_ioctl(self->gpu.fd, request, buffer);
		EXPECT_TRUE(is_clear(ret)) {
			TH_LOG("direction %d size %zu: %d", dir, size, ret);
		}
		if (size >= real && dir == (_IOC_READ | _IOC_WRITE))
			EXPECT_EQ(0, ret);
		for (; size < 32768 && buffer[size] == CANARY; size++)
			;
		EXPECT_EQ(32768, size);
		memcpy(self->args, buffer, real);
		if (!ret && dir & _IOC_READ)
			forget_vm(self, variant->request);
	}
	free(buffer);
	EXPECT_EQ(0, settle(&self->gpu, self->mem));
}

TEST_F(abuse, structure_anywhere)
{
	size_t real = _IOC_SIZE(variant->request), i;
	char *area = vsvm_alloc(self->page, self->page);
	/* Truncated by the end of the mapping, unmapped, or in the kernel. */
	void *where[] = {
		NULL, (void *)1, (void *)KERNEL_ADDRESS, (void *)-8,
		area + self->page, area + self->page - real + 4, area - 4,
		(void *)(1ULL << 63), (void *)((1ULL << 47) - 8),
	};
	int ret;

	ASSERT_NE(NULL, area);
	for (i = 0; i < ARRAY_SIZE(where); i++) {
		EXPECT_EQ(-EFAULT, vsvm_ioctl(self->gpu.fd, variant->request,
					      where[i])) {
			TH_LOG("at %p", where[i]);
		}
	}
	variant->fill(self, self->args);
	memcpy(area, self->args, real);
	ASSERT_EQ(0, mprotect(area, self->page, PROT_READ));
	ret = vsvm_ioctl(self->gpu.fd, variant->request, area);
	EXPECT_TRUE(!ret || ret == -EFAULT);
	munmap(area, self->page);
	EXPECT_EQ(0, settle(&self->gpu, self->mem));
}

/* Without variants: the operations of jobs, and cycles. */
FIXTURE(ops)
{
	struct vsvm_gpu gpu;
	size_t page;
	size_t size;
	char *mem;
	char *bystander;
};

FIXTURE_SETUP(ops)
{
	self->page = getpagesize();
	self->size = NPAGES * self->page;
	ASSERT_EQ(0, set_up(&self->gpu, self->size, &self->mem,
			    &self->bystander));
}

FIXTURE_TEARDOWN(ops)
{
	tear_down(_metadata, &self->gpu, self->size, self->mem,
		  self->bystander);
}

static struct drm_vsvm_op good_op(struct _test_data_ops *self, uint32_t code)
{
	char *mem = self->mem, *other = mem + self->size / 2;
	void *result = self->gpu.result;

	switch (code) {
	case DRM_VSVM_OP_FILL:
		return vsvm_op_fill(mem, 64, 0);
	case DRM_VSVM_OP_COPY:
		return vsvm_op_copy(mem, other, 64);
	case DRM_VSVM_OP_ADD:
		return vsvm_op_add(mem, 0, result);
	case DRM_VSVM_OP_CAS:
		return vsvm_op_cas(mem, 0, 0, result);
	case DRM_VSVM_OP_CHECKSUM:
		return vsvm_op_checksum(other, 64, result);
	case DRM_VSVM_OP_WALK:
		return vsvm_op_walk(other, 4, 16, 0, result);
	default:
		return vsvm_op_muladd(mem, other, other + 128, 64);
	}
}

/* Possible outcomes: nothing is executed, or the job fails. */
static bool job_is_clear(int ret)
{
	return ret == 0 || ret == -EINVAL || ret == EFAULT || ret == EACCES ||
	       ret == ENOSPC || ret == ERANGE;
}

static const struct field op_fields[] = {
	FIELD(drm_vsvm_op, op, ANY), FIELD(drm_vsvm_op, flags, ZERO),
	FIELD(drm_vsvm_op, dst, ANY), FIELD(drm_vsvm_op, src, ANY),
	FIELD(drm_vsvm_op, scalar, ANY), FIELD(drm_vsvm_op, size, ANY),
	FIELD(drm_vsvm_op, count, ANY), FIELD(drm_vsvm_op, value, ANY),
	FIELD(drm_vsvm_op, compare, ANY), FIELD(drm_vsvm_op, offset, ANY),
	FIELD(drm_vsvm_op, result, ANY),
};

TEST_F_TIMEOUT(ops, garbage_in_each_field, TIMEOUT)
{
	uint64_t mem = (uintptr_t)self->mem;
	const uint64_t values[] = {
		0, 1, 8, 4096, mem + 1, mem - 4096, mem + self->size,
		1ULL << 40, 1ULL << 47, (1ULL << 47) - 4096, 1ULL << 63,
		KERNEL_ADDRESS, -8,
	};
	const struct field *field;
	struct drm_vsvm_op op;
	uint32_t code;
	size_t i, k;
	int ret;

	for (code = 0; code <= DRM_VSVM_OP_MULADD; code++) {
		for (k = 0; k < ARRAY_SIZE(op_fields); k++) {
			field = &op_fields[k];
			for (i = 0; i < ARRAY_SIZE(values); i++) {
				op = good_op(self, code);
				put((char *)&op + field->offset, field->size,
				    values[i]);
				/* Nothing that others refer to is written. */
				memset(self->mem, 0, self->size);
				ret = vsvm_run(&self->gpu, &op, 1, NULL);
				EXPECT_TRUE(job_is_clear(ret)) {
					TH_LOG("code %u %s = %#llx: %d", code,
					       field->name, (unsigned long long)
					       values[i], ret);
				}
				if (field->kind == ZERO && op.flags)
					EXPECT_EQ(-EINVAL, ret);
			}
		}
	}
}

/* Nearly all addresses are holes, and there are too many to look at each. */
TEST_F(ops, prefetch_of_all_addresses)
{
	struct drm_vsvm_prefetch args = {
		.vm_id = self->gpu.vm,
		.flags = DRM_VSVM_PREFETCH_PARTIAL,
		.start = 1 << 16,
		.size = (1ULL << 46) - (1 << 16),
		.place = DRM_VSVM_PLACE_SYSTEM,
	};
	double start = vsvm_now_ms();
	uint64_t end = 1ULL << 47;

	ASSERT_EQ(0, vsvm_prefetch(&self->gpu, self->mem, self->size,
				   DRM_VSVM_PLACE_DEVICE));
	ASSERT_EQ(0, vsvm_ioctl(self->gpu.fd, DRM_IOCTL_VSVM_PREFETCH, &args));

	/* The memory of this process is above: where, depends on the machine. */
	while (end <= (uintptr_t)self->mem)
		end <<= 1;
	args.start = 1ULL << 46;
	args.size = end - args.start - self->page;
	ASSERT_EQ(0, vsvm_ioctl(self->gpu.fd, DRM_IOCTL_VSVM_PREFETCH, &args));
	EXPECT_LE(self->size / self->page, args.moved);
	EXPECT_EQ(0, args.left);
	EXPECT_GT(20000, vsvm_now_ms() - start);
}

/* Numbers of no ioctl. */
TEST_F(ops, unknown_ioctls)
{
	uint64_t args[512];
	int nr, dir, ret;

	for (nr = DRM_VSVM_JOB_STATUS + 1;
	     nr < DRM_COMMAND_END - DRM_COMMAND_BASE; nr++) {
		for (dir = 0; dir < 4; dir++) {
			memset(args, -1, sizeof(args));
			ret = vsvm_ioctl(self->gpu.fd,
					 _IOC(dir, DRM_IOCTL_BASE,
					      DRM_COMMAND_BASE + nr, 64), args);
			EXPECT_EQ(-EINVAL, ret);
		}
	}
}

/*
 * Processes that start, and end in any way.
 */

static void abuse_a_bit(struct vsvm_gpu *gpu, char *mem, size_t size)
{
	struct drm_vsvm_exec exec = {
		.vm_id = gpu->vm,
		.ops = KERNEL_ADDRESS,
		.num_ops = 1,
	};
	struct drm_vsvm_prefetch prefetch = {
		.vm_id = gpu->vm,
		.start = (uintptr_t)mem,
		.size = 1ULL << 40,
		.place = DRM_VSVM_PLACE_DEVICE,
	};
	uint32_t vm;

	vsvm_ioctl(gpu->fd, DRM_IOCTL_VSVM_EXEC, &exec);
	vsvm_ioctl(gpu->fd, DRM_IOCTL_VSVM_PREFETCH, &prefetch);
	vsvm_vm_create(gpu->fd, &vm);
	vsvm_vm_destroy(gpu->fd, ~vm);
	vsvm_residency(gpu, mem, size, (void *)KERNEL_ADDRESS);
	vsvm_advise(gpu, mem, size, DRM_VSVM_ADVICE_DEVICE);
}

/* Leave jobs, memory on the device, advice, VMs and syncobjs behind. */
static int use_device(char *mem, size_t size, struct vsvm_gpu *gpu)
{
	struct drm_vsvm_op op[2];
	uint32_t handle;
	int i;

	if (vsvm_gpu_open(gpu, 0))
		return 1;
	abuse_a_bit(gpu, mem, size);
	if (vsvm_syncobj_create(gpu->fd, &handle))
		return 2;
	if (vsvm_prefetch(gpu, mem, size / 2, DRM_VSVM_PLACE_DEVICE))
		return 3;
	op[0] = vsvm_op_fill(mem, size, 4);
	/* Fails: nothing is mapped at the first page. */
	op[1] = vsvm_op_fill((void *)(uintptr_t)getpagesize(), size, 4);
	for (i = 0; i < 3; i++)
		if (vsvm_exec(gpu, op, 2, NULL, 0, NULL))
			return 4;
	return 0;
}

enum way { CLOSE, EXIT, KILL, EXEC, WAYS };

static int one_cycle(char *mem, size_t size, enum way way)
{
	struct vsvm_gpu gpu;
	int status, ret;
	pid_t pid;

	if (way == CLOSE) {
		ret = use_device(mem, size, &gpu);
		vsvm_gpu_close(&gpu);
		return ret;
	}
	pid = fork();
	if (!pid) {
		ret = use_device(mem, size, &gpu);
		if (!ret && way == KILL)
			raise(SIGKILL);
		if (!ret && way == EXEC)
			execl("/bin/true", "true", NULL);
		_exit(ret);
	}
	status = vsvm_wait_child(pid);
	return way == KILL && status == SIGKILL ? 0 : status;
}

/* In KiB, memory that the kernel uses for itself, and memory that is left. */
struct usage {
	long slab;
	long tables;
	long available;
};

static struct usage measure(void)
{
	static const char info[] = "/proc/meminfo";

	/* Wait for frees that are due after a grace period, or in a batch. */
	vsvm_write_file("/proc/sys/vm/drop_caches", "3");
	usleep(300 * 1000);
	return (struct usage) {
		.slab = vsvm_file_figure(info, "SUnreclaim"),
		.tables = vsvm_file_figure(info, "PageTables"),
		.available = vsvm_file_figure(info, "MemAvailable"),
	};
}

/* Enough for a leak of one KiB per cycle to show. */
#define CYCLES		1000
#define WARM_UP		100
#define SLACK_KB	900

/* Workers may have to let go of processes that are gone. */
static struct usage measure_settled(void)
{
	struct usage last, now = measure();
	int tries = 20;

	do {
		last = now;
		now = measure();
	} while (tries-- && now.available > last.available + SLACK_KB);
	return now;
}

/*
 * Processors keep free pages for themselves: up to 34 MiB were seen to come and
 * go.  Less than a page per cycle.
 */
static long available_slack(void)
{
	long pages = 800L * (getpagesize() / 1024);

	return pages > 32 * 1024 ? pages : 32 * 1024;
}

static bool is_more(const struct usage *before, const struct usage *after)
{
	return after->slab - before->slab >= SLACK_KB ||
	       after->tables - before->tables >= SLACK_KB ||
	       before->available - after->available >= available_slack();
}

TEST_F_TIMEOUT(ops, a_thousand_cycles_leave_nothing, TIMEOUT)
{
	bool debug = vsvm_debug_kernel();
	int n = debug ? 120 : CYCLES + WARM_UP, i, tries, ret = 0;
	struct usage before = {}, after = {};

	for (i = 0; i < n && !ret; i++) {
		if (i == WARM_UP)
			before = measure_settled();
		ret = one_cycle(self->mem, self->size, i % WAYS);
		/* Let the jobs end, so that they do not pile up. */
		if (!ret && i % 50 == 0)
			ret = vsvm_gpu_fill(&self->gpu, self->mem, self->size,
					    i);
	}
	EXPECT_EQ(0, ret);
	for (tries = 0; tries < 20; tries++) {
		after = measure_settled();
		if (debug || !is_more(&before, &after))
			break;
	}
	TH_LOG("%d cycles: slab %+ld KiB, tables %+ld KiB, available %+ld KiB (try %d)",
	       i - WARM_UP, after.slab - before.slab,
	       after.tables - before.tables,
	       after.available - before.available, tries);
	/* A debug kernel has kmemleak, and keeps freed memory for a while. */
	if (!debug)
		EXPECT_FALSE(is_more(&before, &after));
}

#define MAX_FILES	32

/* Make as many VMs as possible, in as many files as it takes.  Returns their number. */
static int count_vms(const int *fd)
{
	int file, n = 0, ret = 0;
	uint32_t vm;

	for (file = 0; file < MAX_FILES; file++) {
		for (ret = 0; !ret; n += !ret)
			ret = vsvm_vm_create(fd[file], &vm);
		if (ret != -ENOSPC)
			return ret;
	}
	return n;
}

static int vms_of_a_user(void)
{
	int fd[MAX_FILES], i, spare, n;
	uint32_t vm;

	for (i = 0; i < MAX_FILES; i++) {
		fd[i] = vsvm_open(0);
		if (fd[i] < 0)
			return 1;
	}
	spare = vsvm_open(0);
	if (spare < 0 || setresuid(4321, 4321, 4321))
		return 2;

	n = count_vms(fd);
	if (n != 1024 || vsvm_vm_create(spare, &vm) != -ENOSPC) {
		ksft_print_msg("%d VMs\n", n);
		return 3;
	}
	/* Those of a file that is closed go soon, if not at once. */
	close(fd[0]);
	for (i = 0; i < 1000 && vsvm_vm_create(spare, &vm) == -ENOSPC; i++)
		usleep(10000);
	return i < 1000 ? 0 : 4;
}

/* A user can have many VMs, but not any number, in any number of files. */
TEST_F_TIMEOUT(ops, vms_of_a_user, TIMEOUT)
{
	pid_t pid;

	if (getuid())
		SKIP(return, "needs the right to become others");
	pid = fork();
	if (!pid)
		_exit(vms_of_a_user());
	EXPECT_EQ(0, vsvm_wait_child(pid));
}

TEST_HARNESS_MAIN
