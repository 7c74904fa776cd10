// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tests with a kernel that is out of memory: every allocation that a call makes
 * is failed in turn, and so are those of the workers that run jobs.  After any
 * result of the call, the data has to be there, and the device's memory has to
 * be given back.
 *
 * Needs a kernel with fault injection, and root.
 */

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>

#include "../../kselftest_harness.h"
#include "vsvm_util.h"

#define TIMEOUT		600
#define NPAGES		16
#define SEED		31
/* More allocations than any call makes. */
#define MAX_NTH		2000
/* The allocations of workers that are tried, of either kind. */
#define WORKER_ROUNDS	60

static const char * const injectors[] = { "failslab", "fail_page_alloc" };

static int injector_set(const char *injector, const char *name, long value)
{
	char path[80], text[24];

	snprintf(path, sizeof(path), "/sys/kernel/debug/%s/%s", injector, name);
	snprintf(text, sizeof(text), "%ld", value);
	return vsvm_write_file(path, text);
}

static long injector_get(const char *injector, const char *name)
{
	char path[80], text[24] = "";
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/sys/kernel/debug/%s/%s", injector, name);
	fd = open(path, O_RDONLY);
	if (fd < 0)
		return -1;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	return n > 0 ? strtol(text, NULL, 10) : -1;
}

/* Let allocations fail that could sleep, and those of user memory, too. */
static int injectors_init(void)
{
	unsigned int i;
	int ret = 0;

	for (i = 0; i < 2 && !ret; i++) {
		ret = injector_set(injectors[i], "probability", 0);
		ret = ret ?: injector_set(injectors[i], "verbose", 0);
		ret = ret ?: injector_set(injectors[i], "task-filter", 1);
		ret = ret ?: injector_set(injectors[i], "ignore-gfp-wait", 0);
	}
	ret = ret ?: injector_set("fail_page_alloc", "min-order", 0);
	return ret ?: injector_set("fail_page_alloc", "ignore-gfp-highmem", 0);
}

/* Have every @interval-th allocation of marked tasks fail, so many @times. */
static int injector_start(const char *injector, long interval, long times)
{
	return injector_set(injector, "interval", interval) ?:
	       injector_set(injector, "times", times) ?:
	       injector_set(injector, "probability", 100);
}

static int injectors_start(long interval, long times)
{
	return injector_start(injectors[0], interval, times) ?:
	       injector_start(injectors[1], interval, times);
}

static void injectors_stop(void)
{
	injector_set(injectors[0], "probability", 0);
	injector_set(injectors[1], "probability", 0);
}

/* Limit the allocations that fail to those made, or not made, from some code. */
static int injectors_filter(const char *what, unsigned long start,
			    unsigned long end)
{
	const unsigned long range[2] = { start, end };
	static const char * const names[] = { "start", "end" };
	char path[80], text[24];
	unsigned int i;
	int ret = 0;

	for (i = 0; i < 4 && !ret; i++) {
		snprintf(path, sizeof(path), "/sys/kernel/debug/%s/%s-%s",
			 injectors[i / 2], what, names[i % 2]);
		snprintf(text, sizeof(text), "%#lx", range[i % 2]);
		ret = vsvm_write_file(path, text);
	}
	return ret;
}

FIXTURE(fail)
{
	struct vsvm_gpu gpu;
	/* Files: fail the n-th allocation of this thread, fail all. */
	int nth;
	int all;
	size_t size;
	char *mem;
	/* As large as the device's memory, which it fills. */
	char *filler;
	uint64_t *counter;
	struct drm_vsvm_sync sync[2];
	uint64_t point;
	uint32_t vm;
	int file;
};

FIXTURE_SETUP(fail)
{
	if (injectors_init())
		SKIP(return, "needs fault injection, and the right to use it");
	self->nth = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, self->nth);
	self->all = open("/proc/thread-self/make-it-fail", O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, self->all);
	self->file = -1;

	ASSERT_EQ(0, vsvm_gpu_open(&self->gpu, 0));
	self->size = NPAGES * getpagesize();
	self->mem = vsvm_alloc(self->size, self->size);
	ASSERT_NE(NULL, self->mem);
	vsvm_fill(self->mem, self->size, SEED);
	self->counter = vsvm_alloc(getpagesize(), getpagesize());
	ASSERT_NE(NULL, self->counter);
	*self->counter = 0;
}

FIXTURE_TEARDOWN(fail)
{
	/* Not every kernel has them. */
	injectors_filter("require", 0, -1UL);
	injectors_filter("reject", 0, 0);
	munmap(self->mem, self->size);
	munmap(self->counter, getpagesize());
	EXPECT_EQ(0, vsvm_wait_used(self->gpu.fd, self->gpu.stats.vram_used));
	vsvm_gpu_close(&self->gpu);
	close(self->all);
	close(self->nth);
}

static int write_number(int fd, unsigned int n)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%u", n);

	return pwrite(fd, text, len, 0) == len ? 0 : -errno;
}

/* Returns how many allocations were still to be made before one fails. */
static int nth_stop(int fd)
{
	char text[16] = "";
	int left;

	if (pread(fd, text, sizeof(text) - 1, 0) <= 0)
		return -errno;
	left = atoi(text);
	return write_number(fd, 0) ?: left;
}

/* The data is right, and every page is in one of two places. */
static int check_data(struct _test_data_fail *self)
{
	long device = vsvm_count(&self->gpu, self->mem, self->size,
				 DRM_VSVM_PLACE_DEVICE);
	long system = vsvm_count(&self->gpu, self->mem, self->size,
				 DRM_VSVM_PLACE_SYSTEM);

	if (device < 0 || system < 0 || device + system != NPAGES)
		return -ERANGE;
	return vsvm_verify(self->mem, self->size, SEED) == -1 ? 0 : -EILSEQ;
}

/*
 * Do @call again and again, after @prepare, with the first, second, ...
 * allocation made by it failing, until it makes no more.  Returns the number of
 * times it failed.
 */
static unsigned int fail_each(struct __test_metadata *_metadata,
			      struct _test_data_fail *self,
			      int (*prepare)(struct _test_data_fail *self),
			      int (*call)(struct _test_data_fail *self),
			      int (*check)(struct _test_data_fail *self))
{
	unsigned int n, failed = 0;
	int ret, left = 0;

	for (n = 1; !left; n++) {
		ASSERT_GT(MAX_NTH, n);
		ASSERT_EQ(0, prepare(self));
		ASSERT_EQ(0, write_number(self->nth, n));
		ret = call(self);
		left = nth_stop(self->nth);
		ASSERT_LE(0, left);

		ASSERT_EQ(0, check(self)) {
			TH_LOG("allocation %u, which made it return %d", n, ret);
		}
		if (ret) {
			failed++;
			EXPECT_EQ(-ENOMEM, ret) {
				TH_LOG("allocation %u", n);
			}
		}
	}

	/* That was the one without a failure. */
	EXPECT_EQ(0, ret);
	TH_LOG("%u of %u allocations made it fail", failed, n - 2);
	return failed;
}

/* The same with all of its allocations failing, where one may not be enough. */
static void fail_all(struct __test_metadata *_metadata,
		     struct _test_data_fail *self,
		     int (*prepare)(struct _test_data_fail *self),
		     int (*call)(struct _test_data_fail *self),
		     int (*check)(struct _test_data_fail *self))
{
	int ret;

	ASSERT_EQ(0, prepare(self));
	ASSERT_EQ(0, injectors_start(1, -1));
	ASSERT_EQ(0, write_number(self->all, 1));
	ret = call(self);
	ASSERT_EQ(0, write_number(self->all, 0));
	injectors_stop();

	EXPECT_EQ(-ENOMEM, ret);
	ASSERT_EQ(0, check(self));
}

static int nothing(struct _test_data_fail *self)
{
	return 0;
}

static int close_file(struct _test_data_fail *self)
{
	if (self->file >= 0)
		close(self->file);
	self->file = -1;
	return 0;
}

static int open_file(struct _test_data_fail *self)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", self->gpu.fd);
	self->file = open(path, O_RDWR | O_CLOEXEC);
	return self->file < 0 ? -errno : 0;
}

TEST_F_TIMEOUT(fail, open, TIMEOUT)
{
	EXPECT_LT(0, fail_each(_metadata, self, close_file, open_file,
			       check_data));
	fail_all(_metadata, self, close_file, open_file, check_data);
	close_file(self);
}

static int destroy_vm(struct _test_data_fail *self)
{
	int ret = 0;

	if (self->vm)
		ret = vsvm_vm_destroy(self->gpu.fd, self->vm);
	self->vm = 0;
	return ret;
}

static int create_vm(struct _test_data_fail *self)
{
	return vsvm_vm_create(self->gpu.fd, &self->vm);
}

TEST_F_TIMEOUT(fail, vm_create, TIMEOUT)
{
	EXPECT_LT(0, fail_each(_metadata, self, destroy_vm, create_vm,
			       check_data));
	fail_all(_metadata, self, destroy_vm, create_vm, check_data);
	EXPECT_EQ(0, destroy_vm(self));
}

static int unbind_second(struct _test_data_fail *self)
{
	int ret = vsvm_bind(1, false);

	/* It was not bound. */
	return ret == -ENODEV ? 0 : ret;
}

static int bind_second(struct _test_data_fail *self)
{
	return vsvm_bind(1, true);
}

/* Where the code of a function starts, and that of the next one. */
static int symbol_range(const char *name, unsigned long range[2])
{
	unsigned long addr;
	char symbol[128];
	int pass;
	FILE *file;

	range[0] = 0;
	range[1] = -1UL;
	file = fopen("/proc/kallsyms", "r");
	if (!file)
		return -errno;
	for (pass = 0; pass < 2; pass++) {
		rewind(file);
		while (fscanf(file, "%lx %*c %127s%*[^\n]", &addr, symbol) == 2) {
			if (!pass && !strcmp(symbol, name))
				range[0] = addr;
			else if (pass && addr > range[0] && addr < range[1])
				range[1] = addr;
		}
	}
	fclose(file);
	return range[0] ? 0 : -ENOENT;
}

/*
 * The memory of a second device cannot be set up, and then it can.  What DRM
 * itself and memremap_pages() allocate is left out: they do not stand every
 * failure, or warn of it.
 */
TEST_F_TIMEOUT(fail, bind, TIMEOUT)
{
	unsigned long range[2], core[2];
	int fd = vsvm_open(1);

	if (fd < 0)
		SKIP(return, "needs two devices");
	close(fd);
	ASSERT_EQ(0, symbol_range("vsvm_mem_init", range));
	ASSERT_EQ(0, symbol_range("memremap_pages", core));
	if (injectors_filter("require", range[0], range[1]))
		SKIP(return, "needs CONFIG_FAULT_INJECTION_STACKTRACE_FILTER");
	ASSERT_EQ(0, injectors_filter("reject", core[0], core[1]));
	EXPECT_LT(0, fail_each(_metadata, self, unbind_second, bind_second,
			       check_data));
	fd = vsvm_open(1);
	EXPECT_LE(0, fd);
	close(fd);
}

static int to_system(struct _test_data_fail *self)
{
	return vsvm_prefetch(&self->gpu, self->mem, self->size,
			     DRM_VSVM_PLACE_SYSTEM);
}

static int to_device(struct _test_data_fail *self)
{
	return vsvm_prefetch(&self->gpu, self->mem, self->size,
			     DRM_VSVM_PLACE_DEVICE);
}

TEST_F_TIMEOUT(fail, prefetch_device, TIMEOUT)
{
	EXPECT_LT(0, fail_each(_metadata, self, to_system, to_device,
			       check_data));
	fail_all(_metadata, self, to_system, to_device, check_data);
}

static int full_device(struct _test_data_fail *self)
{
	size_t size = self->gpu.query.vram_size;
	int ret;

	if (!self->filler) {
		self->filler = vsvm_alloc(size, self->gpu.query.chunk_size);
		if (!self->filler)
			return -ENOMEM;
		vsvm_fill(self->filler, size, SEED);
	}
	ret = to_system(self);
	return ret ?: vsvm_prefetch(&self->gpu, self->filler, size,
				    DRM_VSVM_PLACE_DEVICE);
}

/* Neither of the two may lose anything if eviction fails. */
TEST_F_TIMEOUT(fail, prefetch_full_device, TIMEOUT)
{
	size_t size = self->gpu.query.vram_size;

	EXPECT_LT(0, fail_each(_metadata, self, full_device, to_device,
			       check_data));
	fail_all(_metadata, self, full_device, to_device, check_data);
	EXPECT_EQ(-1, vsvm_verify(self->filler, size, SEED));
	munmap(self->filler, size);
}

TEST_F_TIMEOUT(fail, prefetch_system, TIMEOUT)
{
	EXPECT_LT(0, fail_each(_metadata, self, to_device, to_system,
			       check_data));
	fail_all(_metadata, self, to_device, to_system, check_data);
}

static int drop(struct _test_data_fail *self)
{
	return madvise(self->mem, self->size, MADV_DONTNEED) ? -errno : 0;
}

static int check_zero(struct _test_data_fail *self)
{
	return vsvm_verify_value(self->mem, self->size, 0) == -1 ? 0 : -EILSEQ;
}

TEST_F_TIMEOUT(fail, prefetch_untouched, TIMEOUT)
{
	EXPECT_LT(0, fail_each(_metadata, self, drop, to_device, check_zero));
	fail_all(_metadata, self, drop, to_device, check_zero);
}

static int residency(struct _test_data_fail *self)
{
	struct drm_vsvm_page pages[NPAGES];

	return vsvm_residency(&self->gpu, self->mem, self->size, pages);
}

TEST_F_TIMEOUT(fail, residency, TIMEOUT)
{
	EXPECT_LT(0, fail_each(_metadata, self, to_device, residency,
			       check_data));
	fail_all(_metadata, self, to_device, residency, check_data);
}

static int advise_no_place(struct _test_data_fail *self)
{
	return vsvm_advise(&self->gpu, self->mem, self->size,
			   DRM_VSVM_ADVICE_DEFAULT);
}

static int advise(struct _test_data_fail *self)
{
	/* In the middle, so that existing advice is split. */
	return vsvm_advise(&self->gpu, self->mem + self->size / 4,
			   self->size / 2, DRM_VSVM_ADVICE_SYSTEM);
}

/* Advice is in a maple tree, whose nodes are allocated in advance. */
TEST_F_TIMEOUT(fail, advise, TIMEOUT)
{
	EXPECT_LT(0, fail_each(_metadata, self, advise_no_place, advise,
			       check_data));
	fail_all(_metadata, self, advise_no_place, advise, check_data);
}

/* A CPU fault cannot return an error: it has to succeed. */
static int cpu_fault(struct _test_data_fail *self)
{
	vsvm_touch(self->mem + self->size / 2);
	return 0;
}

TEST_F_TIMEOUT(fail, cpu_fault, TIMEOUT)
{
	EXPECT_EQ(0, fail_each(_metadata, self, to_device, cpu_fault,
			       check_data));
}

/* One more on the counter, after the last job and before the next. */
static int submit(struct _test_data_fail *self)
{
	struct drm_vsvm_op op = vsvm_op_add(self->counter, 1, NULL);
	bool first = !self->point;
	int ret;

	self->sync[0].timeline_value = self->point;
	self->sync[1].timeline_value = self->point + 1;
	ret = vsvm_exec(&self->gpu, &op, 1, first ? self->sync + 1 : self->sync,
			first ? 1 : 2, NULL);
	if (!ret)
		self->point++;
	return ret;
}

/* A job that was refused has neither run nor left a fence. */
static int check_jobs(struct _test_data_fail *self)
{
	int ret = 0;

	if (self->point)
		ret = vsvm_syncobj_wait(self->gpu.fd, self->sync[0].handle,
					self->point, VSVM_WAIT_MS);
	if (!ret && *self->counter != self->point)
		ret = -EILSEQ;
	if (!ret && vsvm_syncobj_wait(self->gpu.fd, self->sync[0].handle,
				      self->point + 1, 0) != -ETIME)
		ret = -EEXIST;
	return ret ?: check_data(self);
}

TEST_F_TIMEOUT(fail, exec, TIMEOUT)
{
	ASSERT_EQ(0, vsvm_syncobj_create(self->gpu.fd, &self->sync[0].handle));
	self->sync[1].handle = self->sync[0].handle;
	self->sync[1].flags = DRM_VSVM_SYNC_SIGNAL;
	EXPECT_LT(0, fail_each(_metadata, self, nothing, submit, check_jobs));
	fail_all(_metadata, self, nothing, submit, check_jobs);
	EXPECT_LT(0, self->point);
	vsvm_syncobj_destroy(self->gpu.fd, self->sync[0].handle);
}

/* Mark the workers of workqueues, and kthreadd for those that are to come. */
static int mark_workers(bool fail)
{
	char path[64], name[32] = "";
	struct dirent *entry;
	int marked = 0;
	DIR *proc;
	int fd;

	proc = opendir("/proc");
	if (!proc)
		return -errno;
	while ((entry = readdir(proc))) {
		if (!isdigit(entry->d_name[0]))
			continue;
		snprintf(path, sizeof(path), "/proc/%.16s/comm", entry->d_name);
		fd = open(path, O_RDONLY);
		if (fd < 0)
			continue;
		memset(name, 0, sizeof(name));
		if (read(fd, name, sizeof(name) - 1) > 0 &&
		    (!strncmp(name, "kworker/", 8) || !strcmp(name, "kthreadd\n"))) {
			snprintf(path, sizeof(path), "/proc/%.16s/make-it-fail",
				 entry->d_name);
			marked += !vsvm_write_file(path, fail ? "1" : "0");
		}
		close(fd);
	}
	closedir(proc);
	return marked;
}

/*
 * Jobs on a VM of their own, for which everything is yet to be allocated.  One
 * that fails reports it, and has not executed later operations.
 */
TEST_F_TIMEOUT(fail, jobs, TIMEOUT)
{
	unsigned int i, injected = 0, failed = 0;
	struct drm_vsvm_job_status status;
	struct drm_vsvm_op ops[2];
	struct vsvm_gpu gpu;
	uint64_t expect = 0;
	int ret;

	ASSERT_LT(1, mark_workers(true));
	for (i = 0; i < 2 * WORKER_ROUNDS; i++) {
		const char *injector = injectors[i % 2];

		ASSERT_EQ(0, vsvm_gpu_open(&gpu, 0));
		ASSERT_EQ(0, i % 4 < 2 ? to_system(self) : to_device(self));
		ops[0] = vsvm_op_checksum(self->mem, self->size,
					  self->counter + 1);
		ops[1] = vsvm_op_add(self->counter, 1, NULL);
		ASSERT_EQ(0, injector_start(injector, i / 2 + 1, 1));
		ret = vsvm_run(&gpu, ops, 2, &status);
		injectors_stop();
		injected += !injector_get(injector, "times");

		if (ret) {
			EXPECT_EQ(ENOMEM, ret) {
				TH_LOG("round %u, operation %u", i, status.op);
			}
			failed++;
		} else {
			expect++;
		}
		ASSERT_EQ(expect, *self->counter);
		if (!ret)
			EXPECT_EQ(vsvm_checksum(self->mem, self->size),
				  self->counter[1]);
		ASSERT_EQ(0, check_data(self));

		/* The VM works as before. */
		ASSERT_EQ(0, vsvm_run(&gpu, ops, 2, &status));
		expect++;
		ASSERT_EQ(expect, *self->counter);
		vsvm_gpu_close(&gpu);
	}
	ASSERT_LT(1, mark_workers(false));

	TH_LOG("%u allocations failed, and with them %u jobs", injected, failed);
	EXPECT_LT(WORKER_ROUNDS / 2, injected);
	EXPECT_LT(0, failed);
}

TEST_HARNESS_MAIN
