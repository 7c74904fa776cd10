// SPDX-License-Identifier: GPL-2.0-only
/*
 * The operations of the GPU, and its access to memory: by its page table, page
 * by page, under the notifier lock.
 *
 * An operation is made of accesses.  An access is to one place at a time, and
 * copies go through a buffer, so that an operation never needs two pages at
 * once, of which one could drive out the other.
 *
 * Memory that a GPU accesses is shared by its very nature: with CPUs, with
 * peers, with other VMs.  Hence the accesses to words are marked, and atomic
 * operations are those of the CPU.
 */

#include <linux/atomic.h>
#include <linux/bitops.h>
#include <linux/mm.h>
#include <linux/nospec.h>
#include <linux/overflow.h>
#include <linux/rcupdate.h>
#include <linux/string.h>
#include <linux/unaligned.h>

#include <drm/drm_drv.h>
#include <uapi/drm/vsvm_drm.h>

#include "vsvm_drv.h"

#define VSVM_WORD	sizeof(u64)
#define VSVM_FNV_BASIS	0xcbf29ce484222325ULL
#define VSVM_FNV_PRIME	0x00000100000001b3ULL

/*
 * Accesses.
 */

/**
 * struct vsvm_access - something that is done with memory
 * @fn: Does it, with memory of one page.  Called under the notifier lock.
 * @write: Whether it writes.
 * @buffer: Where to read to or write from; advanced by @fn.
 * @value: Operand.
 * @compare: Operand.
 * @result: Output, with a meaning that depends on @fn.
 */
struct vsvm_access {
	void (*fn)(struct vsvm_access *access, void *mem, size_t size);
	bool write;
	void *buffer;
	u64 value;
	u64 compare;
	u64 result;
};

static void vsvm_access_fill(struct vsvm_access *access, void *mem, size_t size)
{
	u64 *word;

	for (word = mem; size; size -= VSVM_WORD)
		WRITE_ONCE(*word++, access->value);
}

/* A word of memory is accessed as one; the buffer need not be aligned. */
static size_t vsvm_access_step(const void *mem, size_t size)
{
	return IS_ALIGNED((unsigned long)mem, VSVM_WORD) && size >= VSVM_WORD ?
	       VSVM_WORD : 1;
}

static void vsvm_access_read(struct vsvm_access *access, void *mem, size_t size)
{
	size_t n;

	for (; size; size -= n) {
		n = vsvm_access_step(mem, size);
		if (n == VSVM_WORD)
			put_unaligned(READ_ONCE(*(u64 *)mem),
				      (u64 *)access->buffer);
		else
			*(u8 *)access->buffer = READ_ONCE(*(u8 *)mem);
		mem += n;
		access->buffer += n;
	}
}

static void vsvm_access_write(struct vsvm_access *access, void *mem, size_t size)
{
	size_t n;

	for (; size; size -= n) {
		n = vsvm_access_step(mem, size);
		if (n == VSVM_WORD)
			WRITE_ONCE(*(u64 *)mem,
				   get_unaligned((u64 *)access->buffer));
		else
			WRITE_ONCE(*(u8 *)mem, *(u8 *)access->buffer);
		mem += n;
		access->buffer += n;
	}
}

static void vsvm_access_add(struct vsvm_access *access, void *mem, size_t size)
{
	access->result = atomic64_fetch_add(access->value, mem);
}

static void vsvm_access_cas(struct vsvm_access *access, void *mem, size_t size)
{
	access->result = atomic64_cmpxchg(mem, access->compare, access->value);
}

static void vsvm_access_hash(struct vsvm_access *access, void *mem, size_t size)
{
	u64 *word;

	for (word = mem; size; size -= VSVM_WORD)
		access->result = (access->result ^ READ_ONCE(*word++)) *
				 VSVM_FNV_PRIME;
}

static void vsvm_access_muladd(struct vsvm_access *access, void *mem, size_t size)
{
	u64 *word, *factor = access->buffer;

	for (word = mem; size; size -= VSVM_WORD, word++)
		WRITE_ONCE(*word, READ_ONCE(*word) + *factor++ * access->value);
	access->buffer = factor;
}

/* Do it if the page is there.  Returns false for a page fault. */
static bool vsvm_access_try(struct vsvm_vm *vm, u64 addr, size_t size,
			    struct vsvm_access *access)
{
	struct drm_pagemap_device_addr device_addr;
	bool ret;

	drm_gpusvm_notifier_lock(&vm->gpusvm);
	ret = vsvm_pt_walk(vm, addr, access->write, &device_addr);
	if (ret)
		access->fn(access, vsvm_mem_access(vm->vdev, &device_addr,
						   offset_in_page(addr), size),
			   size);
	drm_gpusvm_notifier_unlock(&vm->gpusvm);
	return ret;
}

static int vsvm_access_page(struct vsvm_vm *vm, u64 addr, size_t size,
			    struct vsvm_access *access)
{
	struct vsvm_fault fault = {
		.vm = vm,
		.addr = addr & PAGE_MASK,
		.write = access->write,
	};
	bool done = false;
	int ret;

	do {
		ret = READ_ONCE(vm->queue.closed);
		if (ret)
			return ret;
		/*
		 * Not drm_dev_enter(): with a fault inside, drm_dev_unplug()
		 * of any DRM device would wait for a file system.  This one
		 * waits for its workers, see vsvm_vm_detach_all().
		 */
		if (drm_dev_is_unplugged(&vm->vdev->drm))
			return -ENODEV;

		/* Garbage may be mapped still. */
		vsvm_range_collect(vm);
		done = vsvm_access_try(vm, addr, size, access);
		if (!done)
			ret = vsvm_fault_handle(&fault);
		cond_resched_tasks_rcu_qs();
	} while (!done && !ret);
	return ret;
}

static int vsvm_engine_access(struct vsvm_engine *engine, u64 addr, u64 size,
			      struct vsvm_access *access)
{
	struct vsvm_vm *vm = engine->vm;
	size_t n;
	u64 end;
	int ret;

	engine->address = addr;
	if (check_add_overflow(addr, size, &end) || end > vm->mm->task_size)
		return -EFAULT;

	for (; addr < end; addr += n) {
		n = min_t(u64, end - addr, PAGE_SIZE - offset_in_page(addr));
		ret = vsvm_access_page(vm, addr, n, access);
		if (ret) {
			engine->address = addr;
			return ret;
		}
	}
	engine->address = 0;
	return 0;
}

static int vsvm_engine_read(struct vsvm_engine *engine, u64 addr, void *buffer,
			    size_t size)
{
	struct vsvm_access access = {
		.fn = vsvm_access_read,
		.buffer = buffer,
	};

	return vsvm_engine_access(engine, addr, size, &access);
}

static int vsvm_engine_write(struct vsvm_engine *engine, u64 addr, void *buffer,
			     size_t size)
{
	struct vsvm_access access = {
		.fn = vsvm_access_write,
		.write = true,
		.buffer = buffer,
	};

	return vsvm_engine_access(engine, addr, size, &access);
}

/* Write the result, if it is wanted. */
static int vsvm_engine_result(struct vsvm_engine *engine, u64 addr, u64 *result,
			      size_t size)
{
	return addr ? vsvm_engine_write(engine, addr, result, size) : 0;
}

/*
 * Operations.  Each is executed in steps, of a page at most, between which the
 * worker may turn to other VMs: what one step has to tell the next is in struct
 * vsvm_progress.  Functions return 0 at the end of the operation, and
 * VSVM_STEP_MORE if there is another step.
 */

#define VSVM_STEP_MORE		1

/* Size of the part of a vector that is in the next page. */
static size_t vsvm_step_size(const struct vsvm_engine *engine,
			     const struct drm_vsvm_op *op, u64 addr)
{
	u64 done = engine->progress.done;

	return min_t(u64, op->size - done,
		     PAGE_SIZE - offset_in_page(addr + done));
}

/* After @n bytes of a vector. */
static int vsvm_step_done(struct vsvm_engine *engine,
			  const struct drm_vsvm_op *op, size_t n)
{
	engine->progress.done += n;
	return engine->progress.done < op->size ? VSVM_STEP_MORE : 0;
}

static int vsvm_op_fill(struct vsvm_engine *engine, const struct drm_vsvm_op *op)
{
	size_t n = vsvm_step_size(engine, op, op->dst);
	struct vsvm_access access = {
		.fn = vsvm_access_fill,
		.write = true,
		.value = op->value,
	};
	int ret;

	ret = vsvm_engine_access(engine, op->dst + engine->progress.done, n,
				 &access);
	return ret ? ret : vsvm_step_done(engine, op, n);
}

static int vsvm_op_copy(struct vsvm_engine *engine, const struct drm_vsvm_op *op)
{
	size_t n = vsvm_step_size(engine, op, op->dst);
	u64 done = engine->progress.done;
	int ret;

	ret = vsvm_engine_read(engine, op->src + done, engine->buffer, n);
	if (!ret)
		ret = vsvm_engine_write(engine, op->dst + done, engine->buffer,
					n);
	return ret ? ret : vsvm_step_done(engine, op, n);
}

static int vsvm_op_atomic(struct vsvm_engine *engine,
			  const struct drm_vsvm_op *op)
{
	struct vsvm_access access = {
		.fn = op->op == DRM_VSVM_OP_CAS ?
		      vsvm_access_cas : vsvm_access_add,
		.write = true,
		.value = op->value,
		.compare = op->compare,
	};
	int ret;

	ret = vsvm_engine_access(engine, op->dst, VSVM_WORD, &access);
	if (ret)
		return ret;
	return vsvm_engine_result(engine, op->result, &access.result, VSVM_WORD);
}

static int vsvm_op_checksum(struct vsvm_engine *engine,
			    const struct drm_vsvm_op *op)
{
	size_t n = vsvm_step_size(engine, op, op->src);
	struct vsvm_progress *progress = &engine->progress;
	struct vsvm_access access = {
		.fn = vsvm_access_hash,
		.result = progress->done ? progress->result : VSVM_FNV_BASIS,
	};
	int ret;

	ret = vsvm_engine_access(engine, op->src + progress->done, n, &access);
	if (ret)
		return ret;

	progress->result = access.result;
	if (vsvm_step_done(engine, op, n))
		return VSVM_STEP_MORE;
	return vsvm_engine_result(engine, op->result, &access.result, VSVM_WORD);
}

/* Visit a node: find the next one, and add to its word or just read it. */
static int vsvm_op_walk_node(struct vsvm_engine *engine,
			     const struct drm_vsvm_op *op, u64 node, u64 *next,
			     u64 *old)
{
	struct vsvm_access access = {
		.fn = vsvm_access_add,
		.write = true,
		.value = op->value,
	};
	u64 addr;
	int ret;

	engine->address = node;
	if (!IS_ALIGNED(node, VSVM_WORD) ||
	    check_add_overflow(node, op->offset, &addr))
		return -EFAULT;

	ret = vsvm_engine_read(engine, node, next, VSVM_WORD);
	if (ret)
		return ret;
	if (!op->value)
		return vsvm_engine_read(engine, addr, old, VSVM_WORD);

	ret = vsvm_engine_access(engine, addr, VSVM_WORD, &access);
	*old = access.result;
	return ret;
}

static int vsvm_op_walk(struct vsvm_engine *engine, const struct drm_vsvm_op *op)
{
	struct vsvm_progress *progress = &engine->progress;
	u64 result[2];	/* number of nodes, sum of words */
	u64 old;
	int ret;

	if (!progress->done)
		progress->node = op->src;

	if (progress->node && progress->done < op->count) {
		ret = vsvm_op_walk_node(engine, op, progress->node,
					&progress->node, &old);
		if (ret)
			return ret;
		progress->done++;
		progress->result += old;
		return VSVM_STEP_MORE;
	}

	result[0] = progress->done;
	result[1] = progress->result;
	return vsvm_engine_result(engine, op->result, result, sizeof(result));
}

static int vsvm_op_muladd(struct vsvm_engine *engine,
			  const struct drm_vsvm_op *op)
{
	size_t n = vsvm_step_size(engine, op, op->dst);
	struct vsvm_progress *progress = &engine->progress;
	struct vsvm_access access = {
		.fn = vsvm_access_muladd,
		.write = true,
		.buffer = engine->buffer,
	};
	u64 done = progress->done;
	int ret;

	if (!done) {
		ret = vsvm_engine_read(engine, op->scalar, &progress->scalar,
				       VSVM_WORD);
		if (ret)
			return ret;
	}

	access.value = progress->scalar;
	ret = vsvm_engine_read(engine, op->src + done, engine->buffer, n);
	if (!ret)
		ret = vsvm_engine_access(engine, op->dst + done, n, &access);
	return ret ? ret : vsvm_step_done(engine, op, n);
}

/* The fields that an operation has. */
#define VSVM_HAS_DST		BIT(0)
#define VSVM_HAS_SRC		BIT(1)
#define VSVM_HAS_SCALAR		BIT(2)
#define VSVM_HAS_SIZE		BIT(3)
#define VSVM_HAS_COUNT		BIT(4)	/* together with an offset */
#define VSVM_HAS_VALUE		BIT(5)
#define VSVM_HAS_COMPARE	BIT(6)
#define VSVM_HAS_RESULT		BIT(7)
#define VSVM_NEEDS_RESULT	BIT(8)

/**
 * struct vsvm_op_desc - an operation
 * @step: Executes a step of it.
 * @has: The fields it has.
 * @align: Alignment of addresses and sizes.
 * @result: Size of the result in bytes.
 */
struct vsvm_op_desc {
	int (*step)(struct vsvm_engine *engine, const struct drm_vsvm_op *op);
	unsigned int has;
	unsigned int align;
	unsigned int result;
};

static const struct vsvm_op_desc vsvm_ops[] = {
	[DRM_VSVM_OP_FILL] = {
		.step = vsvm_op_fill,
		.has = VSVM_HAS_DST | VSVM_HAS_SIZE | VSVM_HAS_VALUE,
		.align = VSVM_WORD,
	},
	[DRM_VSVM_OP_COPY] = {
		.step = vsvm_op_copy,
		.has = VSVM_HAS_DST | VSVM_HAS_SRC | VSVM_HAS_SIZE,
		.align = 1,
	},
	[DRM_VSVM_OP_ADD] = {
		.step = vsvm_op_atomic,
		.has = VSVM_HAS_DST | VSVM_HAS_VALUE | VSVM_HAS_RESULT,
		.align = VSVM_WORD,
		.result = VSVM_WORD,
	},
	[DRM_VSVM_OP_CAS] = {
		.step = vsvm_op_atomic,
		.has = VSVM_HAS_DST | VSVM_HAS_VALUE | VSVM_HAS_COMPARE |
		       VSVM_HAS_RESULT,
		.align = VSVM_WORD,
		.result = VSVM_WORD,
	},
	[DRM_VSVM_OP_CHECKSUM] = {
		.step = vsvm_op_checksum,
		.has = VSVM_HAS_SRC | VSVM_HAS_SIZE | VSVM_HAS_RESULT |
		       VSVM_NEEDS_RESULT,
		.align = VSVM_WORD,
		.result = VSVM_WORD,
	},
	[DRM_VSVM_OP_WALK] = {
		.step = vsvm_op_walk,
		.has = VSVM_HAS_SRC | VSVM_HAS_COUNT | VSVM_HAS_VALUE |
		       VSVM_HAS_RESULT,
		.align = VSVM_WORD,
		.result = 2 * VSVM_WORD,
	},
	[DRM_VSVM_OP_MULADD] = {
		.step = vsvm_op_muladd,
		.has = VSVM_HAS_DST | VSVM_HAS_SRC | VSVM_HAS_SCALAR |
		       VSVM_HAS_SIZE,
		.align = VSVM_WORD,
	},
};

static bool vsvm_check_range(u64 addr, u64 size, u64 task_size)
{
	u64 end;

	return !check_add_overflow(addr, size, &end) && end <= task_size;
}

/* Whether the fields that the operation does not have are zero. */
static bool vsvm_check_fields(const struct drm_vsvm_op *op, unsigned int has)
{
	return !op->flags &&
	       (has & VSVM_HAS_DST || !op->dst) &&
	       (has & VSVM_HAS_SRC || !op->src) &&
	       (has & VSVM_HAS_SCALAR || !op->scalar) &&
	       (has & VSVM_HAS_SIZE || !op->size) &&
	       (has & VSVM_HAS_COUNT || !(op->count | op->offset)) &&
	       (has & VSVM_HAS_VALUE || !op->value) &&
	       (has & VSVM_HAS_COMPARE || !op->compare) &&
	       (has & VSVM_HAS_RESULT || !op->result);
}

/* Whether two vectors do not overlap; MULADD's may be the same. */
static bool vsvm_check_overlap(const struct drm_vsvm_op *op)
{
	if (op->op != DRM_VSVM_OP_COPY && op->op != DRM_VSVM_OP_MULADD)
		return true;
	if (op->op == DRM_VSVM_OP_MULADD && op->src == op->dst)
		return true;
	return op->src + op->size <= op->dst || op->dst + op->size <= op->src;
}

/**
 * vsvm_engine_check() - Check an operation
 * @op: The operation.
 * @task_size: End of the address space.
 *
 * Memory that the operation reads is not looked at.
 *
 * Return: 0, or -EINVAL if it is not as the uAPI wants it.
 */
int vsvm_engine_check(const struct drm_vsvm_op *op, u64 task_size)
{
	const struct vsvm_op_desc *desc;
	u64 size;

	if (op->op >= ARRAY_SIZE(vsvm_ops))
		return -EINVAL;
	desc = &vsvm_ops[array_index_nospec(op->op, ARRAY_SIZE(vsvm_ops))];
	if (!vsvm_check_fields(op, desc->has))
		return -EINVAL;

	if ((op->dst | op->src | op->size) & (desc->align - 1) ||
	    (op->scalar | op->offset | op->result) & (VSVM_WORD - 1))
		return -EINVAL;
	if ((desc->has & VSVM_HAS_SIZE && !op->size) ||
	    (desc->has & VSVM_HAS_COUNT && !op->count) ||
	    (desc->has & VSVM_NEEDS_RESULT && !op->result))
		return -EINVAL;

	/* Without a size, it is about words.  An empty list is at address 0. */
	size = desc->has & VSVM_HAS_SIZE ? op->size : VSVM_WORD;
	if (!vsvm_check_range(op->dst, size, task_size) ||
	    !vsvm_check_range(op->src, size, task_size) ||
	    !vsvm_check_range(op->offset, VSVM_WORD, task_size) ||
	    !vsvm_check_range(op->scalar, VSVM_WORD, task_size) ||
	    !vsvm_check_range(op->result, desc->result, task_size) ||
	    !vsvm_check_overlap(op))
		return -EINVAL;
	return 0;
}

/**
 * vsvm_engine_step() - Execute a step of an operation
 * @engine: The engine.
 * @op: The operation, which vsvm_engine_check() accepted.
 *
 * Context: Worker of the VM.  Sleeps.
 * Return: 0 at the end of the operation, 1 if there is more to do, or what
 * vsvm_fault_handle() returns; &vsvm_engine.address says where.
 */
int vsvm_engine_step(struct vsvm_engine *engine, const struct drm_vsvm_op *op)
{
	int ret;

	engine->address = 0;
	ret = vsvm_ops[array_index_nospec(op->op, ARRAY_SIZE(vsvm_ops))]
		.step(engine, op);
	if (!ret)
		memset(&engine->progress, 0, sizeof(engine->progress));
	return ret;
}
