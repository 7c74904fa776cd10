/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _VSVM_UTIL_H_
#define _VSVM_UTIL_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <drm/vsvm_drm.h>

/* The state of a page in /proc/self/pagemap, which is independent of vsvm. */
enum vsvm_pagemap {
	VSVM_PAGEMAP_NONE,
	VSVM_PAGEMAP_PRESENT,
	VSVM_PAGEMAP_SWAPPED,	/* also: in device-private memory */
};

/*
 * A device, and the VM of the calling process on it.  After fork(), a child
 * opens one of its own.
 */
struct vsvm_gpu {
	int fd;
	uint32_t vm;
	struct drm_vsvm_query query;
	/* Counters when the device was opened. */
	struct drm_vsvm_stats stats;
	/*
	 * Buffer for the results of vsvm_gpu_*(): shared memory, which stays
	 * in RAM and is part of no count.
	 */
	uint64_t *result;
};

/* All that return an int return 0, or -errno, or a file descriptor. */

/* Devices */
int vsvm_open(unsigned int device);
int vsvm_gpu_open(struct vsvm_gpu *gpu, unsigned int device);
void vsvm_gpu_close(struct vsvm_gpu *gpu);
int vsvm_ioctl(int fd, unsigned long request, void *arg);
int vsvm_query(int fd, struct drm_vsvm_query *query);
/* If debugfs can be read, vram_used covers all users of the device. */
int vsvm_stats(int fd, struct drm_vsvm_stats *stats);
int vsvm_vm_create(int fd, uint32_t *vm);
int vsvm_vm_destroy(int fd, uint32_t vm);
int vsvm_bind(unsigned int device, bool bind);
int vsvm_set_peers(bool peers);

/* Wait until at most @used bytes of device memory are in use. */
int vsvm_wait_used(int fd, uint64_t used);
/* The same, or -ETIME if it takes longer. */
int vsvm_wait_used_ms(int fd, uint64_t used, unsigned int timeout_ms);

/* The value in bytes of a line of the file's fdinfo, or -1. */
long long vsvm_fdinfo(int fd, const char *key);

/* A figure of the device's memory region from debugfs, or -1. */
long long vsvm_region_figure(unsigned int device, const char *name);

/* Location of memory, and advice for it */
int vsvm_prefetch(const struct vsvm_gpu *gpu, void *addr, size_t size,
		  uint32_t place);
int vsvm_advise(const struct vsvm_gpu *gpu, void *addr, size_t size,
		uint32_t advice);
int vsvm_residency(const struct vsvm_gpu *gpu, const void *addr, size_t size,
		   struct drm_vsvm_page *pages);

/* Whether the CPU accesses device memory in place */
static inline bool vsvm_coherent(const struct vsvm_gpu *gpu)
{
	return gpu->query.vram_flags & DRM_VSVM_VRAM_COHERENT;
}

/*
 * Have memory come back to system memory: accesses of the CPU do that, but leave
 * it where it is if the memory is coherent.
 */
int vsvm_bring_back(const struct vsvm_gpu *gpu, void *addr, size_t size);

/* The place of pages that were on the device when the CPU accessed them */
static inline uint8_t vsvm_accessed_place(const struct vsvm_gpu *gpu)
{
	return vsvm_coherent(gpu) ? DRM_VSVM_PLACE_DEVICE :
				    DRM_VSVM_PLACE_SYSTEM;
}

int vsvm_pagemap(const void *addr, size_t npages, uint8_t *state);
/* Number of pages with a bit of /proc/self/pagemap set */
long vsvm_count_bits(const void *addr, size_t npages, uint64_t bit);

/*
 * Number of pages of the range that are in @place; -EILSEQ if the driver and the
 * kernel's pagemap differ, another -errno if one of them does not answer.
 */
long vsvm_count(const struct vsvm_gpu *gpu, const void *addr, size_t size,
		uint8_t place);

/* Operations */
struct drm_vsvm_op vsvm_op_fill(void *dst, size_t size, uint64_t value);
struct drm_vsvm_op vsvm_op_copy(void *dst, const void *src, size_t size);
struct drm_vsvm_op vsvm_op_add(void *dst, uint64_t value, void *result);
struct drm_vsvm_op vsvm_op_cas(void *dst, uint64_t compare, uint64_t value,
			       void *result);
struct drm_vsvm_op vsvm_op_checksum(const void *src, size_t size, void *result);
struct drm_vsvm_op vsvm_op_walk(const void *first, uint64_t count,
				uint64_t offset, uint64_t value, void *result);
struct drm_vsvm_op vsvm_op_muladd(void *dst, const void *src,
				  const void *scalar, size_t size);

/* Jobs */
int vsvm_exec(const struct vsvm_gpu *gpu, const struct drm_vsvm_op *ops,
	      uint32_t num_ops, const struct drm_vsvm_sync *syncs,
	      uint32_t num_syncs, uint64_t *job);
int vsvm_job_status(const struct vsvm_gpu *gpu, uint64_t job,
		    struct drm_vsvm_job_status *status);

/*
 * Execute operations and wait for the end.  Return 0, or -errno if that could
 * not be done, or the positive errno of the job, which is in @status, too.
 */
int vsvm_run(const struct vsvm_gpu *gpu, const struct drm_vsvm_op *ops,
	     uint32_t num_ops, struct drm_vsvm_job_status *status);

/* The same for one operation. */
int vsvm_gpu_fill(const struct vsvm_gpu *gpu, void *dst, size_t size,
		  uint64_t value);
int vsvm_gpu_copy(const struct vsvm_gpu *gpu, void *dst, const void *src,
		  size_t size);
int vsvm_gpu_add(const struct vsvm_gpu *gpu, void *dst, uint64_t value,
		 uint64_t *old);
int vsvm_gpu_cas(const struct vsvm_gpu *gpu, void *dst, uint64_t compare,
		 uint64_t value, uint64_t *old);
int vsvm_gpu_checksum(const struct vsvm_gpu *gpu, const void *src, size_t size,
		      uint64_t *sum);
int vsvm_gpu_walk(const struct vsvm_gpu *gpu, const void *first, uint64_t count,
		  uint64_t offset, uint64_t value, uint64_t *nodes,
		  uint64_t *sum);
int vsvm_gpu_muladd(const struct vsvm_gpu *gpu, void *dst, const void *src,
		    const void *scalar, size_t size);

/* Fences */
#define VSVM_WAIT_MS	100000

int vsvm_syncobj_create(int fd, uint32_t *handle);
void vsvm_syncobj_destroy(int fd, uint32_t handle);
/* -ETIME if it takes longer; @point is zero for a binary syncobj. */
int vsvm_syncobj_wait(int fd, uint32_t handle, uint64_t point,
		      unsigned int timeout_ms);
/* The fence as a file, which outlives the device. */
int vsvm_syncobj_export(int fd, uint32_t handle, uint64_t point);
/* 1 if the fence is signalled, 0 if not, or the error that is set in it. */
int vsvm_sync_file_status(int file);
int vsvm_syncobj_status(int fd, uint32_t handle, uint64_t point);
/* Wait for the end, and return the status then, or -ETIME. */
int vsvm_sync_file_wait(int file, unsigned int timeout_ms);

/* A timeline of the kernel's sync validation framework: fences to hold jobs. */
int vsvm_sw_sync_open(void);
int vsvm_sw_sync_signal(int timeline, uint32_t count);
int vsvm_sw_sync_import(int timeline, uint32_t value, int fd, uint32_t handle);

/* Memory */

/*
 * Anonymous memory that begins at a multiple of @align, in a mapping that does
 * not merge with its neighbours.  May be unmapped or left mapped.
 */
void *vsvm_alloc(size_t size, size_t align);

/* Read one byte. */
void vsvm_touch(const void *addr);

void vsvm_fill(void *addr, size_t size, uint64_t seed);
/* The offset of the first word that differs from vsvm_fill(), or -1. */
long vsvm_verify(const void *addr, size_t size, uint64_t seed);
/* The offset of the first word that is not @value, or -1. */
long vsvm_verify_value(const void *addr, size_t size, uint64_t value);
uint64_t vsvm_checksum(const void *addr, size_t size);

/* Miscellaneous */
double vsvm_now_ms(void);
int vsvm_write_file(const char *path, const char *text);
int vsvm_write_figure(const char *path, long value);
/* The number behind a name in a file like /proc/meminfo, or -1; "": the first. */
long vsvm_file_figure(const char *path, const char *name);
/* Wait for it to be @value, as statistics come seconds late; returns the last one. */
long vsvm_wait_figure(const char *path, const char *name, long value);
/* Whether the huge pages of this machine have that size. */
bool vsvm_huge_is(size_t size);
/* No huge pages there; without any anywhere, that is no error. */
int vsvm_no_huge(void *mem, size_t size);
/* Bytes of the mappings that overlap @mem that are mapped by huge pages, or -1 */
long vsvm_mapped_huge(const void *mem, size_t size);
/* Whether the kernel keeps track of the pages that are written to. */
bool vsvm_has_soft_dirty(void);
/* Whether the kernel has the checks that make it many times slower. */
bool vsvm_debug_kernel(void);
/* Whether groups of cgroup2 can have limits of memory; from now on, they do. */
bool vsvm_has_memcg(void);
/* Wait for a child.  Return its wait status, or -ECHILD. */
int vsvm_wait_child(pid_t pid);

/* A number that a command line or the environment sets. */
struct vsvm_option {
	const char *name;
	const char *env;	/* overridden by the command line; or NULL */
	bool flag;		/* without an argument: sets 1 */
	uint64_t *value;
};

/* Parse what main() is given; false after anything that is no option. */
bool vsvm_parse_options(int argc, char **argv,
			const struct vsvm_option *options, size_t num_options);
/* A seed that differs from run to run, and the next number of a sequence. */
uint64_t vsvm_new_seed(void);
uint64_t vsvm_random(uint64_t *state);

#endif
