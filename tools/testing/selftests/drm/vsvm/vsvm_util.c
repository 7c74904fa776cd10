// SPDX-License-Identifier: GPL-2.0-only
/* Code that the vsvm programs share. */

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <drm/drm.h>
#include <linux/const.h>
#include <linux/sync_file.h>

#include "../../kselftest.h"
#include "vsvm_util.h"

#define FIRST_RENDER_NODE	128
#define NUM_RENDER_NODES	64

#define PM_SWAP		_BITULL(62)
#define PM_PRESENT	_BITULL(63)

/* As in drivers/dma-buf/sw_sync.c, which does not export it. */
struct sw_sync_fence {
	uint32_t value;
	char name[32];
	int32_t fence;
};

#define SW_SYNC_IOC_CREATE_FENCE	_IOWR('W', 0, struct sw_sync_fence)
#define SW_SYNC_IOC_INC			_IOW('W', 1, uint32_t)

int vsvm_ioctl(int fd, unsigned long request, void *arg)
{
	int ret;

	do {
		ret = ioctl(fd, request, arg);
	} while (ret && errno == EINTR);

	return ret ? -errno : 0;
}

/*
 * The device memory in use, by all processes.  Does not use the heap, which is
 * memory that tests look at.
 */
static bool pool_used(unsigned int device, uint64_t *used)
{
	char path[64], text[128] = "";
	unsigned long pages, free;
	int fd;

	snprintf(path, sizeof(path), "/sys/kernel/debug/dri/vsvm.%u/vsvm-pool",
		 device);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	if (read(fd, text, sizeof(text) - 1) < 0)
		text[0] = '\0';
	close(fd);
	if (sscanf(text, "pages: %lu, free: %lu", &pages, &free) != 2)
		return false;
	*used = (uint64_t)(pages - free) * getpagesize();
	return true;
}

int vsvm_query(int fd, struct drm_vsvm_query *query)
{
	memset(query, 0, sizeof(*query));
	return vsvm_ioctl(fd, DRM_IOCTL_VSVM_QUERY, query);
}

int vsvm_stats(int fd, struct drm_vsvm_stats *stats)
{
	struct drm_vsvm_query query;
	uint64_t used;
	int ret;

	memset(stats, 0, sizeof(*stats));
	ret = vsvm_query(fd, &query);
	if (!ret)
		ret = vsvm_ioctl(fd, DRM_IOCTL_VSVM_STATS, stats);
	if (!ret && pool_used(query.device, &used))
		stats->vram_used = used;
	return ret;
}

static bool is_vsvm(int fd, unsigned int device)
{
	char name[16] = "";
	struct drm_version version = {
		.name = name,
		.name_len = sizeof(name) - 1,
	};
	struct drm_vsvm_query query;

	return !vsvm_ioctl(fd, DRM_IOCTL_VERSION, &version) &&
	       !strcmp(name, "vsvm") && !vsvm_query(fd, &query) &&
	       query.device == device;
}

int vsvm_open(unsigned int device)
{
	char path[32];
	int i, fd;

	for (i = 0; i < NUM_RENDER_NODES; i++) {
		snprintf(path, sizeof(path), "/dev/dri/renderD%d",
			 FIRST_RENDER_NODE + i);
		fd = open(path, O_RDWR | O_CLOEXEC);
		if (fd < 0)
			continue;
		if (is_vsvm(fd, device))
			return fd;
		close(fd);
	}
	return -ENODEV;
}

/*
 * Runs before main() of each program: the driver may be a module that is not
 * loaded yet, and without a device every case would fail for the same reason.
 */
static void __attribute__((constructor)) need_vsvm(void)
{
	int fd = vsvm_open(0);

	if (fd < 0 && !system("modprobe -q vsvm"))
		fd = vsvm_open(0);
	if (fd >= 0) {
		close(fd);
		return;
	}
	ksft_print_header();
	ksft_exit_skip("needs a vsvm device (CONFIG_DRM_VSVM) and access to its render node\n");
}

int vsvm_vm_create(int fd, uint32_t *vm)
{
	struct drm_vsvm_vm_create args = {};
	int ret;

	ret = vsvm_ioctl(fd, DRM_IOCTL_VSVM_VM_CREATE, &args);
	*vm = args.vm_id;
	return ret;
}

int vsvm_vm_destroy(int fd, uint32_t vm)
{
	struct drm_vsvm_vm_destroy args = { .vm_id = vm };

	return vsvm_ioctl(fd, DRM_IOCTL_VSVM_VM_DESTROY, &args);
}

/* Move what is in device memory to system memory, wherever else there is some. */
static void prefetch_back(int fd, uint32_t vm, unsigned long start,
			  unsigned long end)
{
	struct drm_vsvm_prefetch args = {
		.vm_id = vm,
		.flags = DRM_VSVM_PREFETCH_PARTIAL,
		.start = start,
		.size = end - start,
		.place = DRM_VSVM_PLACE_SYSTEM,
	};

	vsvm_ioctl(fd, DRM_IOCTL_VSVM_PREFETCH, &args);
}

/* Read each page of a range, as the process would, and write it, too. */
static void access_range(int mem, unsigned long start, unsigned long end,
			 bool write)
{
	char byte;

	for (; start < end; start += getpagesize())
		if (pread(mem, &byte, 1, start) != 1 ||
		    (write && pwrite(mem, &byte, 1, start) != 1))
			break;
}

/*
 * Heap and stack that jobs have used may be on the device, and are never
 * unmapped.  Access all of it, so that it comes back, or have it moved, with a
 * VM if there is one.
 */
static void for_heap_and_stack(int fd, uint32_t vm, bool write)
{
	int maps = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
	int mem = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	unsigned long start, end;
	char line[256];
	size_t n = 0;

	while (read(maps, line + n, 1) == 1) {
		if (line[n] != '\n') {
			n += n < sizeof(line) - 1;
			continue;
		}
		line[n] = '\0';
		n = 0;
		if ((!strstr(line, "[heap]") && !strstr(line, "[stack]")) ||
		    sscanf(line, "%lx-%lx", &start, &end) != 2)
			continue;
		if (vm)
			prefetch_back(fd, vm, start, end);
		else
			access_range(mem, start, end, write);
	}
	close(mem);
	close(maps);
}

/*
 * What is shared with the parent since fork() moves to the device for both.  The
 * copy that the next write makes is in RAM, but the parent still has the page in
 * coherent memory, where no access brings it back.  So have pages of our own.
 */
static void unshare_heap_and_stack(void)
{
	for_heap_and_stack(-1, 0, true);
}

int vsvm_gpu_open(struct vsvm_gpu *gpu, unsigned int device)
{
	int ret;

	gpu->result = NULL;
	gpu->fd = vsvm_open(device);
	if (gpu->fd < 0)
		return gpu->fd;

	ret = vsvm_query(gpu->fd, &gpu->query);
	if (!ret)
		ret = vsvm_stats(gpu->fd, &gpu->stats);
	if (!ret)
		ret = vsvm_vm_create(gpu->fd, &gpu->vm);
	if (ret)
		goto err_close;

	if (vsvm_coherent(gpu))
		unshare_heap_and_stack();
	gpu->result = mmap(NULL, getpagesize(), PROT_READ | PROT_WRITE,
			   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (gpu->result != MAP_FAILED)
		return 0;

	ret = -errno;
	gpu->result = NULL;
err_close:
	close(gpu->fd);
	gpu->fd = -1;
	return ret;
}

void vsvm_gpu_close(struct vsvm_gpu *gpu)
{
	if (gpu->fd < 0)
		return;
	close(gpu->fd);
	munmap(gpu->result, getpagesize());
	gpu->fd = -1;
}

static void free_heap_and_stack(int fd)
{
	struct drm_vsvm_query query;
	uint32_t vm = 0;

	if (!vsvm_query(fd, &query) &&
	    query.vram_flags & DRM_VSVM_VRAM_COHERENT &&
	    vsvm_vm_create(fd, &vm))
		return;
	for_heap_and_stack(fd, vm, false);
	if (vm)
		vsvm_vm_destroy(fd, vm);
}

/*
 * The driver frees memory a little later than the last page goes, also that of a
 * process which ended before @used was looked at.
 */
int vsvm_wait_used_ms(int fd, uint64_t used, unsigned int timeout_ms)
{
	double end = vsvm_now_ms() + timeout_ms, next = 0;
	struct drm_vsvm_stats stats;
	int ret;

	do {
		ret = vsvm_stats(fd, &stats);
		if (ret || stats.vram_used <= used)
			return ret;
		/* Once more, should a page have been busy. */
		if (vsvm_now_ms() >= next) {
			free_heap_and_stack(fd);
			next = vsvm_now_ms() + 500;
		}
		usleep(1000);
	} while (vsvm_now_ms() < end);
	return -ETIME;
}

int vsvm_wait_used(int fd, uint64_t used)
{
	return vsvm_wait_used_ms(fd, used, VSVM_WAIT_MS);
}

int vsvm_prefetch(const struct vsvm_gpu *gpu, void *addr, size_t size,
		  uint32_t place)
{
	struct drm_vsvm_prefetch args = {
		.vm_id = gpu->vm,
		.start = (uintptr_t)addr,
		.size = size,
		.place = place,
	};

	return vsvm_ioctl(gpu->fd, DRM_IOCTL_VSVM_PREFETCH, &args);
}

int vsvm_bring_back(const struct vsvm_gpu *gpu, void *addr, size_t size)
{
	size_t i;

	if (vsvm_coherent(gpu))
		return vsvm_prefetch(gpu, addr, size, DRM_VSVM_PLACE_SYSTEM);

	for (i = 0; i < size; i += getpagesize())
		vsvm_touch((char *)addr + i);
	return 0;
}

int vsvm_advise(const struct vsvm_gpu *gpu, void *addr, size_t size,
		uint32_t advice)
{
	struct drm_vsvm_advise args = {
		.vm_id = gpu->vm,
		.start = (uintptr_t)addr,
		.size = size,
		.advice = advice,
	};

	return vsvm_ioctl(gpu->fd, DRM_IOCTL_VSVM_ADVISE, &args);
}

int vsvm_residency(const struct vsvm_gpu *gpu, const void *addr, size_t size,
		   struct drm_vsvm_page *pages)
{
	struct drm_vsvm_residency args = {
		.vm_id = gpu->vm,
		.start = (uintptr_t)addr,
		.size = size,
		.pages = (uintptr_t)pages,
	};

	return vsvm_ioctl(gpu->fd, DRM_IOCTL_VSVM_RESIDENCY, &args);
}

static uint8_t pagemap_state(uint64_t entry)
{
	if (entry & PM_PRESENT)
		return VSVM_PAGEMAP_PRESENT;
	return entry & PM_SWAP ? VSVM_PAGEMAP_SWAPPED : VSVM_PAGEMAP_NONE;
}

int vsvm_pagemap(const void *addr, size_t npages, uint8_t *state)
{
	off_t pos = (uintptr_t)addr / getpagesize() * sizeof(uint64_t);
	uint64_t entry[512];
	size_t i, j, n;
	ssize_t len;
	int fd, ret = 0;

	fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;

	for (i = 0; i < npages && !ret; i += n) {
		n = npages - i < 512 ? npages - i : 512;
		len = n * sizeof(*entry);
		if (pread(fd, entry, len, pos + i * sizeof(*entry)) != len)
			ret = -EIO;
		for (j = 0; j < n && !ret; j++)
			state[i + j] = pagemap_state(entry[j]);
	}
	close(fd);
	return ret;
}

long vsvm_count_bits(const void *addr, size_t npages, uint64_t bit)
{
	off_t pos = (uintptr_t)addr / getpagesize() * sizeof(uint64_t);
	uint64_t entry;
	long n = 0;
	int fd;

	fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	for (; npages; npages--, pos += sizeof(entry)) {
		if (pread(fd, &entry, sizeof(entry), pos) != sizeof(entry)) {
			n = -EIO;
			break;
		}
		n += !!(entry & bit);
	}
	close(fd);
	return n;
}

/* Whether the CPU accesses the memory of a device in place; it is asked once. */
static bool device_is_coherent(unsigned int device)
{
	static int known[8];
	struct drm_vsvm_query query;
	int fd, ret, answer;

	if (device < ARRAY_SIZE(known) && known[device])
		return known[device] > 0;

	fd = vsvm_open(device);
	if (fd < 0)
		return false;
	ret = vsvm_query(fd, &query);
	close(fd);
	answer = !ret && query.vram_flags & DRM_VSVM_VRAM_COHERENT ? 1 : -1;
	if (device < ARRAY_SIZE(known))
		known[device] = answer;
	return answer > 0;
}

/* Whether the kernel's view of a page is consistent with the driver's. */
static bool witnesses_agree(const struct drm_vsvm_page *page, uint8_t pagemap)
{
	switch (page->place) {
	case DRM_VSVM_PLACE_SYSTEM:
		return pagemap == VSVM_PAGEMAP_PRESENT;
	case DRM_VSVM_PLACE_DEVICE:
	case DRM_VSVM_PLACE_PEER:
		return pagemap == (device_is_coherent(page->device) ?
				   VSVM_PAGEMAP_PRESENT : VSVM_PAGEMAP_SWAPPED);
	case DRM_VSVM_PLACE_NONE:
		/*
		 * Pages that are really swapped out are in no memory, either.
		 */
		return pagemap != VSVM_PAGEMAP_PRESENT;
	default:
		return true;
	}
}

/*
 * A part at a time, on the stack: allocated memory may land in a hole that is
 * looked at, or next to it, where a write would bring back more than that.
 */
#define COUNT_PAGES	256

static long count_pages(const struct vsvm_gpu *gpu, const void *addr, size_t n,
			uint8_t place)
{
	struct drm_vsvm_page pages[COUNT_PAGES];
	uint8_t pagemap[COUNT_PAGES];
	long count = 0;
	size_t i;
	int ret;

	ret = vsvm_residency(gpu, addr, n * getpagesize(), pages);
	if (!ret)
		ret = vsvm_pagemap(addr, n, pagemap);
	for (i = 0; i < n && !ret; i++) {
		count += pages[i].place == place;
		if (!witnesses_agree(&pages[i], pagemap[i]))
			ret = -EILSEQ;
	}
	return ret ? ret : count;
}

long vsvm_count(const struct vsvm_gpu *gpu, const void *addr, size_t size,
		uint8_t place)
{
	size_t page = getpagesize(), i, n = size / page, part;
	long ret, count = 0;

	for (i = 0; i < n; i += part) {
		part = n - i < COUNT_PAGES ? n - i : COUNT_PAGES;
		ret = count_pages(gpu, (const char *)addr + i * page, part,
				  place);
		if (ret < 0)
			return ret;
		count += ret;
	}
	return count;
}

int vsvm_write_file(const char *path, const char *text)
{
	ssize_t len = strlen(text);
	int fd, ret = 0;

	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (write(fd, text, len) != len)
		ret = -errno;
	close(fd);
	return ret;
}

int vsvm_write_figure(const char *path, long value)
{
	char text[24];

	snprintf(text, sizeof(text), "%ld", value);
	return vsvm_write_file(path, text);
}

int vsvm_bind(unsigned int device, bool bind)
{
	char name[16];

	snprintf(name, sizeof(name), "vsvm.%u", device);
	return vsvm_write_file(bind ? "/sys/bus/platform/drivers/vsvm/bind" :
				      "/sys/bus/platform/drivers/vsvm/unbind",
			       name);
}

int vsvm_set_peers(bool peers)
{
	return vsvm_write_file("/sys/module/vsvm/parameters/peers",
			       peers ? "1" : "0");
}

long long vsvm_fdinfo(int fd, const char *key)
{
	char path[32], line[128], unit[8];
	long long value, result = -1;
	size_t len = strlen(key);
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	file = fopen(path, "r");
	if (!file)
		return -1;

	while (fgets(line, sizeof(line), file)) {
		if (strncmp(line, key, len) || line[len] != ':')
			continue;
		unit[0] = '\0';
		if (sscanf(line + len + 1, "%lld %7s", &value, unit) < 1)
			continue;
		result = value;
		if (!strcmp(unit, "KiB"))
			result <<= 10;
		else if (!strcmp(unit, "MiB"))
			result <<= 20;
	}
	fclose(file);
	return result;
}

long long vsvm_region_figure(unsigned int device, const char *name)
{
	size_t len = strlen(name);
	long long value = -1;
	char path[64], line[64];
	FILE *file;

	snprintf(path, sizeof(path),
		 "/sys/kernel/debug/dri/vsvm.%u/pagemap-vram", device);
	file = fopen(path, "r");
	if (!file)
		return -1;
	while (fgets(line, sizeof(line), file)) {
		if (!strncmp(line, name, len) && line[len] == ':')
			value = atoll(line + len + 1);
	}
	fclose(file);
	return value;
}

struct drm_vsvm_op vsvm_op_fill(void *dst, size_t size, uint64_t value)
{
	return (struct drm_vsvm_op) {
		.op = DRM_VSVM_OP_FILL,
		.dst = (uintptr_t)dst,
		.size = size,
		.value = value,
	};
}

struct drm_vsvm_op vsvm_op_copy(void *dst, const void *src, size_t size)
{
	return (struct drm_vsvm_op) {
		.op = DRM_VSVM_OP_COPY,
		.dst = (uintptr_t)dst,
		.src = (uintptr_t)src,
		.size = size,
	};
}

struct drm_vsvm_op vsvm_op_add(void *dst, uint64_t value, void *result)
{
	return (struct drm_vsvm_op) {
		.op = DRM_VSVM_OP_ADD,
		.dst = (uintptr_t)dst,
		.value = value,
		.result = (uintptr_t)result,
	};
}

struct drm_vsvm_op vsvm_op_cas(void *dst, uint64_t compare, uint64_t value,
			       void *result)
{
	return (struct drm_vsvm_op) {
		.op = DRM_VSVM_OP_CAS,
		.dst = (uintptr_t)dst,
		.compare = compare,
		.value = value,
		.result = (uintptr_t)result,
	};
}

struct drm_vsvm_op vsvm_op_checksum(const void *src, size_t size, void *result)
{
	return (struct drm_vsvm_op) {
		.op = DRM_VSVM_OP_CHECKSUM,
		.src = (uintptr_t)src,
		.size = size,
		.result = (uintptr_t)result,
	};
}

struct drm_vsvm_op vsvm_op_walk(const void *first, uint64_t count,
				uint64_t offset, uint64_t value, void *result)
{
	return (struct drm_vsvm_op) {
		.op = DRM_VSVM_OP_WALK,
		.src = (uintptr_t)first,
		.count = count,
		.offset = offset,
		.value = value,
		.result = (uintptr_t)result,
	};
}

struct drm_vsvm_op vsvm_op_muladd(void *dst, const void *src,
				  const void *scalar, size_t size)
{
	return (struct drm_vsvm_op) {
		.op = DRM_VSVM_OP_MULADD,
		.dst = (uintptr_t)dst,
		.src = (uintptr_t)src,
		.scalar = (uintptr_t)scalar,
		.size = size,
	};
}

int vsvm_exec(const struct vsvm_gpu *gpu, const struct drm_vsvm_op *ops,
	      uint32_t num_ops, const struct drm_vsvm_sync *syncs,
	      uint32_t num_syncs, uint64_t *job)
{
	struct drm_vsvm_exec args = {
		.vm_id = gpu->vm,
		.ops = (uintptr_t)ops,
		.syncs = (uintptr_t)syncs,
		.num_ops = num_ops,
		.num_syncs = num_syncs,
	};
	int ret;

	ret = vsvm_ioctl(gpu->fd, DRM_IOCTL_VSVM_EXEC, &args);
	if (!ret && job)
		*job = args.job;
	return ret;
}

int vsvm_job_status(const struct vsvm_gpu *gpu, uint64_t job,
		    struct drm_vsvm_job_status *status)
{
	memset(status, 0, sizeof(*status));
	status->vm_id = gpu->vm;
	status->job = job;
	return vsvm_ioctl(gpu->fd, DRM_IOCTL_VSVM_JOB_STATUS, status);
}

int vsvm_run(const struct vsvm_gpu *gpu, const struct drm_vsvm_op *ops,
	     uint32_t num_ops, struct drm_vsvm_job_status *status)
{
	struct drm_vsvm_sync sync = { .flags = DRM_VSVM_SYNC_SIGNAL };
	struct drm_vsvm_job_status own;
	uint64_t job;
	int ret;

	if (!status)
		status = &own;
	ret = vsvm_syncobj_create(gpu->fd, &sync.handle);
	if (ret)
		return ret;

	ret = vsvm_exec(gpu, ops, num_ops, &sync, 1, &job);
	if (!ret)
		ret = vsvm_syncobj_wait(gpu->fd, sync.handle, 0, VSVM_WAIT_MS);
	if (!ret)
		ret = vsvm_job_status(gpu, job, status);
	vsvm_syncobj_destroy(gpu->fd, sync.handle);
	return ret ? ret : (int)status->error;
}

int vsvm_gpu_fill(const struct vsvm_gpu *gpu, void *dst, size_t size,
		  uint64_t value)
{
	struct drm_vsvm_op op = vsvm_op_fill(dst, size, value);

	return vsvm_run(gpu, &op, 1, NULL);
}

int vsvm_gpu_copy(const struct vsvm_gpu *gpu, void *dst, const void *src,
		  size_t size)
{
	struct drm_vsvm_op op = vsvm_op_copy(dst, src, size);

	return vsvm_run(gpu, &op, 1, NULL);
}

int vsvm_gpu_add(const struct vsvm_gpu *gpu, void *dst, uint64_t value,
		 uint64_t *old)
{
	struct drm_vsvm_op op = vsvm_op_add(dst, value, gpu->result);
	int ret;

	ret = vsvm_run(gpu, &op, 1, NULL);
	*old = gpu->result[0];
	return ret;
}

int vsvm_gpu_cas(const struct vsvm_gpu *gpu, void *dst, uint64_t compare,
		 uint64_t value, uint64_t *old)
{
	struct drm_vsvm_op op = vsvm_op_cas(dst, compare, value, gpu->result);
	int ret;

	ret = vsvm_run(gpu, &op, 1, NULL);
	*old = gpu->result[0];
	return ret;
}

int vsvm_gpu_checksum(const struct vsvm_gpu *gpu, const void *src, size_t size,
		      uint64_t *sum)
{
	struct drm_vsvm_op op = vsvm_op_checksum(src, size, gpu->result);
	int ret;

	ret = vsvm_run(gpu, &op, 1, NULL);
	*sum = gpu->result[0];
	return ret;
}

int vsvm_gpu_walk(const struct vsvm_gpu *gpu, const void *first, uint64_t count,
		  uint64_t offset, uint64_t value, uint64_t *nodes,
		  uint64_t *sum)
{
	struct drm_vsvm_op op = vsvm_op_walk(first, count, offset, value,
					     gpu->result);
	int ret;

	ret = vsvm_run(gpu, &op, 1, NULL);
	*nodes = gpu->result[0];
	*sum = gpu->result[1];
	return ret;
}

int vsvm_gpu_muladd(const struct vsvm_gpu *gpu, void *dst, const void *src,
		    const void *scalar, size_t size)
{
	struct drm_vsvm_op op = vsvm_op_muladd(dst, src, scalar, size);

	return vsvm_run(gpu, &op, 1, NULL);
}

int vsvm_syncobj_create(int fd, uint32_t *handle)
{
	struct drm_syncobj_create args = {};
	int ret;

	ret = vsvm_ioctl(fd, DRM_IOCTL_SYNCOBJ_CREATE, &args);
	*handle = args.handle;
	return ret;
}

void vsvm_syncobj_destroy(int fd, uint32_t handle)
{
	struct drm_syncobj_destroy args = { .handle = handle };

	vsvm_ioctl(fd, DRM_IOCTL_SYNCOBJ_DESTROY, &args);
}

int vsvm_syncobj_wait(int fd, uint32_t handle, uint64_t point,
		      unsigned int timeout_ms)
{
	struct drm_syncobj_timeline_wait args = {
		.handles = (uintptr_t)&handle,
		.points = (uintptr_t)&point,
		.timeout_nsec = (vsvm_now_ms() + timeout_ms) * 1e6,
		.count_handles = 1,
		.flags = DRM_SYNCOBJ_WAIT_FLAGS_WAIT_ALL |
			 DRM_SYNCOBJ_WAIT_FLAGS_WAIT_FOR_SUBMIT,
	};

	return vsvm_ioctl(fd, DRM_IOCTL_SYNCOBJ_TIMELINE_WAIT, &args);
}

/* Points of timelines cannot be exported: move one to a binary syncobj. */
int vsvm_syncobj_export(int fd, uint32_t handle, uint64_t point)
{
	struct drm_syncobj_transfer transfer = {
		.src_handle = handle,
		.src_point = point,
	};
	struct drm_syncobj_handle args = {
		.flags = DRM_SYNCOBJ_HANDLE_TO_FD_FLAGS_EXPORT_SYNC_FILE,
		.fd = -1,
	};
	int ret;

	ret = vsvm_syncobj_create(fd, &transfer.dst_handle);
	if (ret)
		return ret;

	ret = vsvm_ioctl(fd, DRM_IOCTL_SYNCOBJ_TRANSFER, &transfer);
	args.handle = transfer.dst_handle;
	if (!ret)
		ret = vsvm_ioctl(fd, DRM_IOCTL_SYNCOBJ_HANDLE_TO_FD, &args);
	vsvm_syncobj_destroy(fd, transfer.dst_handle);
	return ret ? ret : args.fd;
}

int vsvm_sync_file_status(int file)
{
	struct sync_file_info info = {};
	int ret;

	ret = vsvm_ioctl(file, SYNC_IOC_FILE_INFO, &info);
	return ret ? ret : info.status;
}

int vsvm_sync_file_wait(int file, unsigned int timeout_ms)
{
	struct pollfd pollfd = { .fd = file, .events = POLLIN };
	int ret;

	ret = poll(&pollfd, 1, timeout_ms);
	if (ret <= 0)
		return ret ? -errno : -ETIME;
	return vsvm_sync_file_status(file);
}

int vsvm_syncobj_status(int fd, uint32_t handle, uint64_t point)
{
	int file, ret;

	file = vsvm_syncobj_export(fd, handle, point);
	if (file < 0)
		return file;
	ret = vsvm_sync_file_status(file);
	close(file);
	return ret;
}

int vsvm_sw_sync_open(void)
{
	int fd = open("/sys/kernel/debug/sync/sw_sync", O_RDWR | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

int vsvm_sw_sync_signal(int timeline, uint32_t count)
{
	return vsvm_ioctl(timeline, SW_SYNC_IOC_INC, &count);
}

int vsvm_sw_sync_import(int timeline, uint32_t value, int fd, uint32_t handle)
{
	struct sw_sync_fence fence = { .value = value, .name = "vsvm test" };
	struct drm_syncobj_handle args = {
		.handle = handle,
		.flags = DRM_SYNCOBJ_FD_TO_HANDLE_FLAGS_IMPORT_SYNC_FILE,
	};
	int ret;

	ret = vsvm_ioctl(timeline, SW_SYNC_IOC_CREATE_FENCE, &fence);
	if (ret)
		return ret;

	args.fd = fence.fence;
	ret = vsvm_ioctl(fd, DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE, &args);
	close(fence.fence);
	return ret;
}

void *vsvm_alloc(size_t size, size_t align)
{
	size_t page = getpagesize();
	uintptr_t start;
	char *area;

	/* The memory around it cannot be accessed, and stays. */
	area = mmap(NULL, size + align + page, PROT_NONE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (area == MAP_FAILED)
		return NULL;

	start = ((uintptr_t)area + page + align - 1) / align * align;
	if (mprotect((void *)start, size, PROT_READ | PROT_WRITE))
		return NULL;
	return (void *)start;
}

void vsvm_touch(const void *addr)
{
	char byte;

	/* Keep the compiler from dropping the read. */
	memcpy(&byte, addr, 1);
	asm("" : : "r" (byte) : "memory");
}

void vsvm_fill(void *addr, size_t size, uint64_t seed)
{
	uint64_t *word = addr;
	size_t i;

	for (i = 0; i < size / sizeof(*word); i++) {
		seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
		word[i] = seed;
	}
}

long vsvm_verify(const void *addr, size_t size, uint64_t seed)
{
	const uint64_t *word = addr;
	size_t i;

	for (i = 0; i < size / sizeof(*word); i++) {
		seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
		if (word[i] != seed)
			return i * sizeof(*word);
	}
	return -1;
}

long vsvm_verify_value(const void *addr, size_t size, uint64_t value)
{
	const uint64_t *word = addr;
	size_t i;

	for (i = 0; i < size / sizeof(*word); i++)
		if (word[i] != value)
			return i * sizeof(*word);
	return -1;
}

uint64_t vsvm_checksum(const void *addr, size_t size)
{
	const uint64_t *word = addr;
	uint64_t sum = 14695981039346656037ULL;
	size_t i;

	for (i = 0; i < size / sizeof(*word); i++)
		sum = (sum ^ word[i]) * 1099511628211ULL;
	return sum;
}

double vsvm_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1e3 + ts.tv_nsec / 1e6;
}

long vsvm_file_figure(const char *path, const char *name)
{
	size_t len = strlen(name);
	long value = -1;
	char line[128];
	FILE *file;

	file = fopen(path, "r");
	if (!file)
		return -1;
	while (fgets(line, sizeof(line), file))
		if (!len)
			value = atol(line);
		else if (!strncmp(line, name, len) &&
			 (line[len] == ':' || line[len] == ' '))
			value = atol(line + len + 1);
	fclose(file);
	return value;
}

long vsvm_wait_figure(const char *path, const char *name, long value)
{
	long figure = vsvm_file_figure(path, name);
	int i;

	for (i = 0; i < 100 && figure != value; i++) {
		usleep(100 * 1000);
		figure = vsvm_file_figure(path, name);
	}
	return figure;
}

bool vsvm_huge_is(size_t size)
{
	return vsvm_file_figure("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size",
				"") == (long)size;
}

int vsvm_no_huge(void *mem, size_t size)
{
	if (madvise(mem, size, MADV_NOHUGEPAGE) && errno != EINVAL)
		return -errno;
	return 0;
}

long vsvm_mapped_huge(const void *mem, size_t size)
{
	unsigned long start, end, kib;
	bool here = false;
	char line[256];
	long sum = 0;
	FILE *file;

	file = fopen("/proc/self/smaps", "r");
	if (!file)
		return -1;
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			here = start < (uintptr_t)mem + size &&
			       end > (uintptr_t)mem;
		else if (here && sscanf(line, "AnonHugePages: %lu", &kib) == 1)
			sum += kib * 1024;
	}
	fclose(file);
	return sum;
}

/* Memory that was just written to shows it, if there are such bits. */
bool vsvm_has_soft_dirty(void)
{
	size_t page = getpagesize();
	uint64_t entry = 0;
	char *mem;
	int fd;

	mem = vsvm_alloc(page, page);
	if (!mem)
		return false;
	*mem = 1;
	fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		if (pread(fd, &entry, sizeof(entry),
			  (uintptr_t)mem / page * sizeof(entry)) < 0)
			entry = 0;
		close(fd);
	}
	munmap(mem, page);
	return entry >> 55 & 1;
}

/* A kernel with kmemleak has all the other checks, too. */
bool vsvm_debug_kernel(void)
{
	return !access("/sys/kernel/debug/kmemleak", F_OK);
}

bool vsvm_has_memcg(void)
{
	return !vsvm_write_file("/sys/fs/cgroup/cgroup.subtree_control",
				"+memory");
}

int vsvm_wait_child(pid_t pid)
{
	int status;

	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -ECHILD;
	return status;
}

uint64_t vsvm_new_seed(void)
{
	return (uint64_t)time(NULL) * 1000003 % 1000000007;
}

uint64_t vsvm_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15ULL;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

static bool parse_number(const char *text, uint64_t *value)
{
	char *end;

	*value = strtoull(text, &end, 0);
	return *text && !*end;
}

#define MAX_OPTIONS	8

bool vsvm_parse_options(int argc, char **argv,
			const struct vsvm_option *options, size_t num_options)
{
	struct option longopts[MAX_OPTIONS + 1] = {};
	const char *text;
	size_t i;
	int c;

	for (i = 0; i < num_options && i < MAX_OPTIONS; i++) {
		longopts[i] = (struct option) {
			.name = options[i].name,
			.has_arg = !options[i].flag,
			.val = i,
		};
		text = options[i].env ? getenv(options[i].env) : NULL;
		if (text && *text && !parse_number(text, options[i].value))
			return false;
	}
	while ((c = getopt_long(argc, argv, "", longopts, NULL)) != -1)
		if (c == '?' ||
		    !parse_number(options[c].flag ? "1" : optarg,
				  options[c].value))
			return false;
	return optind == argc;
}
