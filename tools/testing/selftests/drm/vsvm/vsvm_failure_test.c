// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tests of device memory that breaks, by injection: that of vsvm, that of
 * hwpoison-inject, and MADV_HWPOISON.
 */

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>

#include <linux/const.h>

#include "../../kselftest_harness.h"
#include "vsvm_util.h"

#define TIMEOUT		180
#define NPAGES		64
#define BAD		5
#define HUGE		(2UL << 20)

#ifndef BUS_MCEERR_AR
#define BUS_MCEERR_AR	4
#endif

#define PM_PRESENT	_BITULL(63)
#define PM_SWAP		_BITULL(62)
#define PM_PFN_MASK	((1ULL << 55) - 1)
/* Of a swapped page: the type is in the low bits. */
#define PM_SWAP_SHIFT	5

#define MTHP	"/sys/kernel/mm/transparent_hugepage/hugepages-64kB/enabled"
#define INJECT		"/sys/kernel/debug/hwpoison/corrupt-pfn"

FIXTURE(failure)
{
	struct vsvm_gpu gpu;
	long long broken;
	size_t page;
	size_t size;
	char *mem;
};

static long long broken_pages(void)
{
	return vsvm_region_figure(0, "pages-poisoned");
}

/* The pfn of a page, also of one in private device memory; 0: none */
static uint64_t pfn_of(const void *addr)
{
	uint64_t entry = 0;
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return 0;
	if (pread(fd, &entry, sizeof(entry),
		  (uintptr_t)addr / getpagesize() * sizeof(entry)) != sizeof(entry))
		entry = 0;
	close(fd);
	if (entry & PM_PRESENT)
		return entry & PM_PFN_MASK;
	return entry & PM_SWAP ? (entry & PM_PFN_MASK) >> PM_SWAP_SHIFT : 0;
}

static int write_number(const char *path, uint64_t number)
{
	char text[32];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)number);
	return vsvm_write_file(path, text);
}

static int break_page(uint64_t pfn)
{
	return write_number("/sys/kernel/debug/dri/vsvm.0/vsvm-memory-failure", pfn);
}

FIXTURE_SETUP(failure)
{
	ASSERT_EQ(0, vsvm_gpu_open(&self->gpu, 0));
	if (getuid())
		SKIP(return, "not root");
	if (access("/proc/sys/vm/memory_failure_recovery", F_OK))
		SKIP(return, "no MEMORY_FAILURE");
	self->page = getpagesize();
	self->size = NPAGES * self->page;
	self->mem = vsvm_alloc(self->size, HUGE);
	ASSERT_NE(NULL, self->mem);
	ASSERT_EQ(0, vsvm_no_huge(self->mem, self->size));
	vsvm_fill(self->mem, self->size, 1);
	ASSERT_EQ(0, vsvm_prefetch(&self->gpu, self->mem, self->size,
				   DRM_VSVM_PLACE_DEVICE));
	ASSERT_EQ(NPAGES, vsvm_count(&self->gpu, self->mem, self->size,
				     DRM_VSVM_PLACE_DEVICE));
	self->broken = broken_pages();
}

/* A device that is bound again has new pages, none of them broken. */
FIXTURE_TEARDOWN(failure)
{
	if (self->mem)
		munmap(self->mem, self->size);
	vsvm_gpu_close(&self->gpu);
	if (broken_pages() > 0) {
		EXPECT_EQ(0, vsvm_bind(0, false));
		EXPECT_EQ(0, vsvm_bind(0, true));
		EXPECT_EQ(0, broken_pages());
	}
}

static sigjmp_buf resume;
static siginfo_t caught;

static void on_sigbus(int sig, siginfo_t *info, void *context)
{
	caught = *info;
	siglongjmp(resume, 1);
}

enum access {
	READ,
	WRITE,
	POISON,		/* by MADV_HWPOISON, which may signal at once */
};

/* Access a page: 0, or the si_code of the SIGBUS that it raises, or -errno */
static int access_page(char *addr, enum access access)
{
	struct sigaction action = {
		.sa_sigaction = on_sigbus,
		.sa_flags = SA_SIGINFO,
	}, old;
	int code = 0;

	sigaction(SIGBUS, &action, &old);
	if (sigsetjmp(resume, 1))
		code = caught.si_code;
	else if (access == POISON)
		code = madvise(addr, getpagesize(), MADV_HWPOISON) ? -errno : 0;
	else if (access == WRITE)
		__atomic_store_n(addr, 1, __ATOMIC_RELAXED);
	else
		vsvm_touch(addr);
	sigaction(SIGBUS, &old, NULL);
	return code;
}

static void *bad_page(struct _test_data_failure *self)
{
	return self->mem + BAD * self->page;
}

static void expect_one_lost(struct __test_metadata *_metadata,
			    struct _test_data_failure *self)
{
	char *bad = bad_page(self), *after = bad + self->page;
	size_t rest = self->size - (BAD + 1) * self->page;
	uint64_t sum;

	EXPECT_EQ(BUS_MCEERR_AR, access_page(bad, READ));
	EXPECT_EQ(bad, (char *)caught.si_addr);
	EXPECT_EQ(BUS_MCEERR_AR, access_page(bad + 8, WRITE));
	/* The device has no page there either. */
	EXPECT_EQ(EFAULT, vsvm_gpu_checksum(&self->gpu, bad, self->page, &sum));
	EXPECT_EQ(EFAULT, vsvm_gpu_fill(&self->gpu, bad, self->page, 1));

	EXPECT_EQ(0, vsvm_gpu_checksum(&self->gpu, after, rest, &sum));
	EXPECT_EQ(vsvm_checksum(after, rest), sum);
}

/* The page that breaks is lost, and nothing else. */
TEST_F_TIMEOUT(failure, one_page, TIMEOUT)
{
	uint64_t pfn = pfn_of(bad_page(self)), sum;

	ASSERT_NE(0, pfn);
	sum = vsvm_checksum(self->mem, BAD * self->page);
	ASSERT_EQ(0, vsvm_prefetch(&self->gpu, self->mem, self->size,
				   DRM_VSVM_PLACE_DEVICE));
	pfn = pfn_of(bad_page(self));
	ASSERT_EQ(0, break_page(pfn));
	EXPECT_EQ(self->broken + 1, broken_pages());
	EXPECT_EQ(NPAGES - 1, vsvm_count(&self->gpu, self->mem, self->size,
					 DRM_VSVM_PLACE_DEVICE));
	expect_one_lost(_metadata, self);
	EXPECT_EQ(sum, vsvm_checksum(self->mem, BAD * self->page));

	EXPECT_EQ(-EHWPOISON, break_page(pfn));
	EXPECT_EQ(self->broken + 1, broken_pages());
	EXPECT_EQ(-EINVAL, break_page(0));

	/* Memory of its own again, once the old is discarded */
	ASSERT_EQ(0, madvise(bad_page(self), self->page, MADV_DONTNEED));
	EXPECT_EQ(0, access_page(bad_page(self), WRITE));
	vsvm_fill(self->mem, self->size, 2);
	sum = vsvm_checksum(self->mem, self->size);
	ASSERT_EQ(0, vsvm_prefetch(&self->gpu, self->mem, self->size,
				   DRM_VSVM_PLACE_DEVICE));
	EXPECT_EQ(sum, vsvm_checksum(self->mem, self->size));
}

/* The kernel's own injection, by physical address. */
TEST_F_TIMEOUT(failure, hwpoison_inject, TIMEOUT)
{
	uint64_t pfn = pfn_of(bad_page(self));

	if (access(INJECT, W_OK))
		SKIP(return, "no hwpoison-inject");
	ASSERT_EQ(0, write_number(INJECT, pfn));
	EXPECT_EQ(self->broken + 1, broken_pages());
	expect_one_lost(_metadata, self);
}

/*
 * By virtual address: coherent pages break where they are.  Private ones come to
 * RAM, as for any system call that looks at memory, and it is RAM that breaks.
 */
TEST_F_TIMEOUT(failure, madvise, TIMEOUT)
{
	ASSERT_LE(0, access_page(bad_page(self), POISON));
	EXPECT_EQ(self->broken + vsvm_coherent(&self->gpu), broken_pages());
	EXPECT_EQ(BUS_MCEERR_AR, access_page(bad_page(self), READ));
	if (vsvm_coherent(&self->gpu))
		expect_one_lost(_metadata, self);
}

/* Parent and child share the page, and both lose it. */
TEST_F_TIMEOUT(failure, fork, TIMEOUT)
{
	int go[2], pid;
	char c;

	ASSERT_EQ(0, pipe(go));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		if (read(go[0], &c, 1) != 1)
			_exit(1);
		_exit(access_page(bad_page(self), READ) == BUS_MCEERR_AR ? 0 : 2);
	}
	ASSERT_EQ(0, break_page(pfn_of(bad_page(self))));
	ASSERT_EQ(1, write(go[1], "", 1));
	EXPECT_EQ(0, vsvm_wait_child(pid));
	EXPECT_EQ(BUS_MCEERR_AR, access_page(bad_page(self), WRITE));
	close(go[0]);
	close(go[1]);

	/* The entry, which is no page any more, is inherited as well. */
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		_exit(access_page(bad_page(self), READ) == BUS_MCEERR_AR ? 0 : 2);
	EXPECT_EQ(0, vsvm_wait_child(pid));
}

/* A broken page is never given out again, whatever is allocated. */
TEST_F_TIMEOUT(failure, never_again, TIMEOUT)
{
	/* So much that it takes each of the three to find out that it is broken */
	size_t size = self->gpu.query.vram_size - self->page, i, seen = 0;
	uint64_t bad[3];
	char *mem;

	for (i = 0; i < 3; i++) {
		bad[i] = pfn_of(bad_page(self) + i * self->page);
		ASSERT_EQ(0, break_page(bad[i]));
	}
	munmap(self->mem, self->size);
	self->mem = NULL;
	ASSERT_EQ(0, vsvm_wait_used(self->gpu.fd, self->gpu.stats.vram_used));

	mem = vsvm_alloc(size, HUGE);
	ASSERT_NE(NULL, mem);
	vsvm_fill(mem, size, 3);
	ASSERT_EQ(0, vsvm_prefetch(&self->gpu, mem, size, DRM_VSVM_PLACE_DEVICE));
	for (i = 0; i < size; i += self->page) {
		uint64_t pfn = pfn_of(mem + i);

		seen += pfn == bad[0] || pfn == bad[1] || pfn == bad[2];
	}
	EXPECT_EQ(0, seen);
	EXPECT_EQ(3, vsvm_file_figure("/sys/kernel/debug/dri/vsvm.0/vsvm-pool",
				      "broken pages taken out of use"));
	EXPECT_EQ(-1, vsvm_verify(mem, size, 3));
	munmap(mem, size);
}

/* Large folios of RAM move as before, once a page has broken. */
TEST_F_TIMEOUT(failure, large_folios, TIMEOUT)
{
	size_t size = HUGE, i;
	char *mem;

	ASSERT_EQ(0, break_page(pfn_of(bad_page(self))));
	if (vsvm_write_file(MTHP, "always"))
		SKIP(return, "no folios of 64K");
	for (i = 0; i < 8; i++) {
		/* The end of the range is that of a folio. */
		mem = vsvm_alloc(size, HUGE);
		ASSERT_NE(NULL, mem);
		vsvm_fill(mem, size, i);
		EXPECT_EQ(0, vsvm_prefetch(&self->gpu, mem, size,
					   DRM_VSVM_PLACE_DEVICE));
		EXPECT_EQ((long)(size / self->page),
			  vsvm_count(&self->gpu, mem, size, DRM_VSVM_PLACE_DEVICE));
		EXPECT_EQ(-1, vsvm_verify(mem, size, i));
		munmap(mem, size);
	}
	EXPECT_EQ(0, vsvm_write_file(MTHP, "never"));
}

/* The device can be unplugged, and what is not broken survives that. */
TEST_F_TIMEOUT(failure, unplug, TIMEOUT)
{
	ASSERT_EQ(0, break_page(pfn_of(bad_page(self))));
	ASSERT_EQ(0, vsvm_bind(0, false));
	EXPECT_EQ(BUS_MCEERR_AR, access_page(bad_page(self), READ));
	EXPECT_EQ(-1, vsvm_verify(self->mem, BAD * self->page, 1));
	ASSERT_EQ(0, vsvm_bind(0, true));
}

struct worker {
	struct vsvm_gpu *gpu;
	char *mem;
	size_t size;
	atomic_bool stop;
};

static void *move_and_compute(void *arg)
{
	struct worker *w = arg;
	uint64_t sum;

	while (!atomic_load(&w->stop)) {
		vsvm_prefetch(w->gpu, w->mem, w->size, DRM_VSVM_PLACE_DEVICE);
		vsvm_gpu_checksum(w->gpu, w->mem, w->size, &sum);
		vsvm_prefetch(w->gpu, w->mem, w->size, DRM_VSVM_PLACE_SYSTEM);
	}
	return NULL;
}

/* Pages break while they move and while the device works on them. */
TEST_F_TIMEOUT(failure, while_moving, TIMEOUT)
{
	struct worker w = {
		.gpu = &self->gpu,
		.mem = self->mem,
		.size = self->size,
	};
	unsigned int i, lost = 0, broken = 0;
	pthread_t thread;

	ASSERT_EQ(0, pthread_create(&thread, NULL, move_and_compute, &w));
	for (i = 0; i < 300 && broken < NPAGES / 4; i++) {
		char *addr = self->mem + i * 7 % NPAGES * self->page;

		broken += !break_page(pfn_of(addr));
		usleep(1000);
	}
	atomic_store(&w.stop, true);
	pthread_join(thread, NULL);

	/* A page may have moved away just before the one it was in broke. */
	for (i = 0; i < NPAGES; i++) {
		int code = access_page(self->mem + i * self->page, READ);

		EXPECT_TRUE(!code || code == BUS_MCEERR_AR);
		lost += !!code;
	}
	EXPECT_LE(lost, broken);
	TH_LOG("%u pages broke, %u of them in use", broken, lost);
}

TEST_HARNESS_MAIN
