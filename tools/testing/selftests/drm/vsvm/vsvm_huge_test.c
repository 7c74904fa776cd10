// SPDX-License-Identifier: GPL-2.0-only
/*
 * A stress test of large folios: threads read and write memory, and discard
 * parts of it, while others move it to the device and back, evict it, swap it
 * out, collapse it, take references to its pages, and fork.  Each page has one
 * owner at a time, so that its contents are known.
 */

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include <linux/const.h>
#include <linux/mempolicy.h>
#include <linux/userfaultfd.h>

#include "../../kselftest_harness.h"
#include "vsvm_util.h"

#ifndef MADV_COLD
#define MADV_COLD	20
#endif
#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT	21
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif

#define THP "/sys/kernel/mm/transparent_hugepage/enabled"
#define MTHP_DIR "/sys/kernel/mm/transparent_hugepage/hugepages-64kB/"
#define MTHP MTHP_DIR "enabled"
#define MTHP_FAULTS MTHP_DIR "stats/anon_fault_alloc"

#define TIMEOUT		300
#define MiB		(1024UL * 1024)
#define HUGE		(2 * MiB)
#define CHUNKS		2
#define SIZE		(CHUNKS * HUGE)
#define MTHP_SIZE	(64 * 1024UL)
#define MAX_PAGE	(64 * 1024UL)
#define WORDS		8	/* of a page that are checked */

#define PM_SOFT_DIRTY	_BITULL(55)

#define PREFER_WRITER	PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP

enum { OWNER_A, OWNER_B, HAMMER, OWNERS };

enum op {
	WRITE, DONTNEED, FREE, FILL, PIN, READ_REMOTELY, TO_DEVICE, TO_SYSTEM,
	EVICT, PAGEOUT, COLD, COLLAPSE, FORK, OPS
};

/* An operation, and the errors with which it may fail beside others. */
static const struct {
	const char *name;
	int errors[4];
} ops[OPS] = {
	[WRITE] = { "write" },
	[DONTNEED] = { "MADV_DONTNEED" },
	[FREE] = { "MADV_FREE" },
	[FILL] = { "fill", { EBUSY, ENOSPC, ENOMEM } },
	[PIN] = { "vmsplice" },
	[READ_REMOTELY] = { "process_vm_readv" },
	[TO_DEVICE] = { "prefetch to device", { EBUSY, ENOSPC } },
	[TO_SYSTEM] = { "prefetch to system", { EBUSY } },
	[EVICT] = { "evict", { EBUSY, ENOSPC } },
	[PAGEOUT] = { "MADV_PAGEOUT" },
	[COLD] = { "MADV_COLD" },
	[COLLAPSE] = { "MADV_COLLAPSE", { EAGAIN, EBUSY, ENOMEM, EINVAL } },
	[FORK] = { "fork" },
};

/* Word i of a page is @first + i * @step, or may be 0 if the page is @free. */
struct contents {
	uint64_t first;
	uint64_t step;
	bool free;
};

static struct {
	char *mem;
	size_t page;
	size_t npages;
	struct contents *contents;
	uint64_t *count;
	pthread_rwlock_t lock;	/* held for writing: nobody owns a page */
	atomic_bool stop;
	atomic_ulong rounds[OWNERS];
	atomic_ulong tried[OPS], done[OPS];
	atomic_int unexpected[OPS];	/* the last one that is not in ops[] */
} s;

/* The error of a thread, and the page that it is about. */
struct thread {
	pthread_t id;
	struct vsvm_gpu gpu;
	uint64_t random;
	unsigned int owner;
	int error;
	long page;
	const char *what;
};

static uint64_t next(struct thread *t)
{
	t->random ^= t->random << 13;
	t->random ^= t->random >> 7;
	t->random ^= t->random << 17;
	return t->random;
}

static void *fail(struct thread *t, const char *what, long page, int error)
{
	t->what = what;
	t->page = page;
	t->error = error ? error : -EIO;
	atomic_store(&s.stop, true);
	return NULL;
}

/* Counts an operation; @error is 0 or an errno of either sign. */
static bool did(enum op op, int error)
{
	size_t i;

	atomic_fetch_add(&s.tried[op], 1);
	if (!error) {
		atomic_fetch_add(&s.done[op], 1);
		return true;
	}
	error = abs(error);
	for (i = 0; i < ARRAY_SIZE(ops[op].errors); i++) {
		if (error == ops[op].errors[i])
			return false;
	}
	atomic_store(&s.unexpected[op], error);
	return false;
}

static bool advise_range(enum op op, void *mem, size_t size, int advice)
{
	return did(op, madvise(mem, size, advice) ? errno : 0);
}

static uint64_t *page_of(size_t page)
{
	return (uint64_t *)(s.mem + page * s.page);
}

static uint64_t load(const uint64_t *word)
{
	return __atomic_load_n(word, __ATOMIC_RELAXED);
}

static void store(uint64_t *word, uint64_t value)
{
	__atomic_store_n(word, value, __ATOMIC_RELAXED);
}

/* The words that are checked are as far from each other as possible. */
static size_t word_of(size_t i)
{
	return i * (s.page / WORDS / sizeof(uint64_t));
}

/* The last word is the hammer's. */
static size_t last_word(void)
{
	return s.page / sizeof(uint64_t) - 1;
}

static bool page_is_good(const uint64_t *word, size_t page)
{
	const struct contents *c = &s.contents[page];
	uint64_t value;
	size_t i;

	for (i = 0; i < WORDS; i++) {
		value = load(&word[word_of(i)]);
		if (value != c->first + i * c->step && !(c->free && !value))
			return false;
	}
	return true;
}

static void write_page(size_t page, uint64_t first, uint64_t step)
{
	struct contents *c = &s.contents[page];
	size_t i;

	for (i = 0; i < WORDS; i++)
		store(&page_of(page)[word_of(i)], first + i * step);
	c->first = first;
	c->step = step;
	c->free = false;
}

static size_t own_page(struct thread *t)
{
	return next(t) % (s.npages / OWNERS) * OWNERS + t->owner;
}

static const char *discard(size_t page, enum op op)
{
	if (!advise_range(op, page_of(page), s.page,
			  op == FREE ? MADV_FREE : MADV_DONTNEED))
		return ops[op].name;
	if (op == FREE)
		s.contents[page].free = true;
	else
		s.contents[page] = (struct contents) {};
	return NULL;
}

/* Holds a reference to the page while others try to move it. */
static const char *pin(struct thread *t, size_t page)
{
	uint64_t copy[MAX_PAGE / sizeof(uint64_t)];
	struct iovec from = { page_of(page), s.page };
	const char *what = NULL;
	int fd[2];

	if (pipe(fd))
		return "pipe";
	if (vmsplice(fd[1], &from, 1, 0) != (ssize_t)s.page)
		what = "vmsplice";
	else if (!page_is_good(page_of(page), page))
		what = "read of a pinned page";
	else if (next(t) % 2)
		usleep(1000);
	if (!what && (read(fd[0], copy, s.page) != (ssize_t)s.page ||
		      !page_is_good(copy, page)))
		what = "pipe contents";
	close(fd[0]);
	close(fd[1]);
	if (!what)
		did(PIN, 0);
	return what;
}

static const char *read_remotely(size_t page)
{
	uint64_t copy[MAX_PAGE / sizeof(uint64_t)];
	struct iovec from = { page_of(page), s.page };
	struct iovec to = { copy, s.page };

	if (process_vm_readv(getpid(), &to, 1, &from, 1, 0) !=
	    (ssize_t)s.page)
		return "process_vm_readv";
	did(READ_REMOTELY, 0);
	return page_is_good(copy, page) ? NULL : "process_vm_readv contents";
}

static const char *device_fill(struct thread *t, size_t page)
{
	uint64_t value = next(t);

	/* A job that fails may have filled a part. */
	if (!did(FILL, vsvm_gpu_fill(&t->gpu, page_of(page), s.page,
				     value))) {
		write_page(page, value, 1);
		return NULL;
	}
	s.contents[page] = (struct contents) { .first = value };
	return NULL;
}

static const char *own_step(struct thread *t, size_t page)
{
	if (!page_is_good(page_of(page), page))
		return "contents";

	switch (next(t) % 32) {
	case 0:
	case 1:
		return discard(page, DONTNEED);
	case 2:
		return discard(page, FREE);
	case 3:
		return device_fill(t, page);
	case 4:
		return pin(t, page);
	case 5:
	case 6:
		return read_remotely(page);
	default:
		write_page(page, next(t), next(t) | 1);
		did(WRITE, 0);
		return NULL;
	}
}

static void *own(void *arg)
{
	struct thread *t = arg;
	const char *what = NULL;
	size_t page = 0;
	int i;

	while (!what && !atomic_load(&s.stop)) {
		pthread_rwlock_rdlock(&s.lock);
		for (i = 0; i < 16 && !what; i++) {
			page = own_page(t);
			what = own_step(t, page);
		}
		pthread_rwlock_unlock(&s.lock);
		atomic_fetch_add(&s.rounds[t->owner], 1);
	}
	return what ? fail(t, what, page, -errno) : NULL;
}

/*
 * Writes all the time, without any call, so that this CPU has TLB entries of
 * pages that others migrate: no write may be lost.
 */
static void *hammer(void *arg)
{
	uint64_t *word = NULL;
	struct thread *t = arg;
	size_t page = 0;
	int i;

	while (!atomic_load(&s.stop)) {
		pthread_rwlock_rdlock(&s.lock);
		/* The same page again and again, then another. */
		for (i = 0; i < 256; i++) {
			if (i % 64 == 0) {
				page = own_page(t);
				word = page_of(page) + last_word();
			}
			if (load(word) != s.count[page]) {
				pthread_rwlock_unlock(&s.lock);
				return fail(t, "lost write", page, 0);
			}
			store(word, ++s.count[page]);
		}
		pthread_rwlock_unlock(&s.lock);
		atomic_fetch_add(&s.rounds[t->owner], 1);
	}
	return NULL;
}

/* One page, 64K, 2M or everything; may reach over the ends of folios. */
static char *pick(struct thread *t, size_t *size)
{
	static const size_t sizes[] = { 4096, MTHP_SIZE, HUGE, SIZE };
	size_t offset, max;

	max = sizes[next(t) % 4];
	if (max < s.page)
		max = s.page;
	*size = max;
	if (next(t) % 4 == 0)
		*size = (next(t) % (max / s.page) + 1) * s.page;
	offset = next(t) % (SIZE - *size + s.page);
	/* Mostly aligned to the size, sometimes to pages only. */
	if (next(t) % 4)
		offset = offset / max * max;
	return s.mem + offset / s.page * s.page;
}

static void *move(void *arg)
{
	struct thread *t = arg;
	size_t size;
	char *mem;

	while (!atomic_load(&s.stop)) {
		mem = pick(t, &size);
		if (next(t) % 3)
			did(TO_DEVICE, vsvm_prefetch(&t->gpu, mem, size,
						     DRM_VSVM_PLACE_DEVICE));
		else
			did(TO_SYSTEM, vsvm_prefetch(&t->gpu, mem, size,
						     DRM_VSVM_PLACE_SYSTEM));
		usleep(next(t) % 8192);
	}
	return NULL;
}

/* Fills device memory with something else. */
static void *evict(void *arg)
{
	struct thread *t = arg;
	size_t size = t->gpu.query.vram_size / HUGE * HUGE;
	char *other = vsvm_alloc(size, HUGE);
	size_t i;

	if (!other)
		return fail(t, "memory", 0, -ENOMEM);
	while (!atomic_load(&s.stop)) {
		for (i = 0; i < size && !atomic_load(&s.stop); i += HUGE)
			did(EVICT, vsvm_prefetch(&t->gpu, other + i, HUGE,
						 DRM_VSVM_PLACE_DEVICE));
		madvise(other, size, MADV_DONTNEED);
		usleep(200000);
	}
	munmap(other, size);
	return NULL;
}

static void *advise(void *arg)
{
	struct thread *t = arg;
	size_t size;
	char *mem;

	while (!atomic_load(&s.stop)) {
		mem = pick(t, &size);
		switch (next(t) % 3) {
		case 0:
			advise_range(PAGEOUT, mem, size, MADV_PAGEOUT);
			break;
		case 1:
			advise_range(COLD, mem, size, MADV_COLD);
			break;
		default:
			/* Only whole huge pages; the rest is ignored. */
			mem = s.mem + next(t) % CHUNKS * HUGE;
			advise_range(COLLAPSE, mem, HUGE, MADV_COLLAPSE);
		}
		usleep(next(t) % 4096);
	}
	return NULL;
}

/* Called when nobody else works on the memory. */
static long bad_page(void)
{
	size_t page;

	for (page = 0; page < s.npages; page++) {
		if (page % OWNERS == HAMMER ?
		    load(&page_of(page)[last_word()]) != s.count[page] :
		    !page_is_good(page_of(page), page))
			return page;
	}
	return -1;
}

/* Throw a whole huge page away, and have it all anew. */
static void reset_chunk(size_t chunk)
{
	size_t page, n = s.npages / CHUNKS;

	madvise(s.mem + chunk * HUGE, HUGE, MADV_DONTNEED);
	memset(s.contents + chunk * n, 0, n * sizeof(*s.contents));
	memset(s.count + chunk * n, 0, n * sizeof(*s.count));
	/* A word that nobody checks */
	for (page = chunk * n; page < (chunk + 1) * n; page++)
		store(&page_of(page)[1], 1);
}

/* The child's memory is that of the moment, whatever the parent does to it. */
static int child(void)
{
	size_t page;

	if (bad_page() != -1)
		return 1;
	for (page = 0; page < s.npages; page += 7) {
		if (page % OWNERS != HAMMER)
			write_page(page, page, 3);
	}
	return bad_page() == -1 ? 0 : 2;
}

FIXTURE(huge)
{
	struct vsvm_gpu gpu;
	char *thp;
	char *mthp;
};

FIXTURE_VARIANT(huge)
{
	const char *thp;
	const char *mthp;
	int advice;
	size_t huge;	/* bytes that are mapped as huge pages at first */
	size_t mthp_size;	/* bytes in folios of 64K at first */
};

/* Only MADV_COLLAPSE makes huge pages here. */
FIXTURE_VARIANT_ADD(huge, 4K) {
	.thp = "never", .mthp = "never", .advice = MADV_NORMAL,
};

FIXTURE_VARIANT_ADD(huge, 64K) {
	.thp = "never", .mthp = "madvise", .advice = MADV_HUGEPAGE,
	.mthp_size = SIZE,
};

FIXTURE_VARIANT_ADD(huge, 2M) {
	.thp = "madvise", .mthp = "never", .advice = MADV_HUGEPAGE,
	.huge = SIZE,
};

/* The setting that is in brackets. */
static char *read_setting(const char *path)
{
	char line[128] = "", word[32];
	FILE *file = fopen(path, "r");
	char *open;

	if (!file)
		return NULL;
	if (!fgets(line, sizeof(line), file))
		line[0] = 0;
	fclose(file);
	open = strchr(line, '[');
	if (!open || sscanf(open, "[%31[a-z]]", word) != 1)
		return NULL;
	return strdup(word);
}

FIXTURE_SETUP(huge)
{
	pthread_rwlockattr_t attr;

	ASSERT_EQ(0, vsvm_gpu_open(&self->gpu, 0));
	self->thp = read_setting(THP);
	self->mthp = read_setting(MTHP);
	if (!self->thp || !self->mthp)
		SKIP(return, "no transparent huge pages");
	ASSERT_EQ(0, vsvm_write_file(THP, variant->thp));
	ASSERT_EQ(0, vsvm_write_file(MTHP, variant->mthp));

	memset(&s, 0, sizeof(s));
	s.page = getpagesize();
	s.npages = SIZE / s.page;
	s.mem = vsvm_alloc(SIZE, HUGE);
	ASSERT_NE(NULL, s.mem);
	ASSERT_EQ(0, madvise(s.mem, SIZE, variant->advice));
	vsvm_write_file("/proc/sys/vm/compact_memory", "1");
	s.contents = calloc(s.npages, sizeof(*s.contents));
	s.count = calloc(s.npages, sizeof(*s.count));
	ASSERT_NE(NULL, s.contents);
	ASSERT_NE(NULL, s.count);

	/* The one who writes waits for a short time only. */
	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(&attr, PREFER_WRITER);
	ASSERT_EQ(0, pthread_rwlock_init(&s.lock, &attr));
}

FIXTURE_TEARDOWN(huge)
{
	if (self->thp)
		EXPECT_EQ(0, vsvm_write_file(THP, self->thp));
	if (self->mthp)
		EXPECT_EQ(0, vsvm_write_file(MTHP, self->mthp));
	if (s.mem)
		munmap(s.mem, SIZE);
	EXPECT_EQ(0, vsvm_wait_used(self->gpu.fd, self->gpu.stats.vram_used));
	vsvm_gpu_close(&self->gpu);
	free(s.contents);
	free(s.count);
	free(self->thp);
	free(self->mthp);
}

/* Whether every operation was successful at least once. */
static bool all_done(void)
{
	unsigned int i;

	for (i = 0; i < OPS; i++)
		if (!atomic_load(&s.done[i]))
			return false;
	for (i = 0; i < OWNERS; i++)
		if (!atomic_load(&s.rounds[i]))
			return false;
	return true;
}

TEST_F_TIMEOUT(huge, stress, TIMEOUT)
{
	static void *(*const fn[])(void *) = {
		own, own, hammer, move, move, evict, advise,
	};
	double now, end, last;
	struct thread thread[ARRAY_SIZE(fn)] = {};
	long swapped = vsvm_file_figure("/proc/vmstat", "pswpout");
	bool swap = vsvm_file_figure("/proc/meminfo", "SwapTotal") > 0;
	long mthp = vsvm_file_figure(MTHP_FAULTS, "");
	unsigned int i, round;
	int status;
	pid_t pid;

	for (i = 0; i < CHUNKS; i++)
		reset_chunk(i);
	ASSERT_EQ(variant->huge, vsvm_mapped_huge(s.mem, SIZE));
	ASSERT_EQ(variant->mthp_size / MTHP_SIZE,
		  vsvm_file_figure(MTHP_FAULTS, "") - mthp);

	for (i = 0; i < ARRAY_SIZE(fn); i++) {
		thread[i].owner = i;
		thread[i].random = 88172645463325252ULL + i;
		ASSERT_EQ(0, vsvm_gpu_open(&thread[i].gpu, 0));
		ASSERT_EQ(0, pthread_create(&thread[i].id, NULL, fn[i],
					    &thread[i]));
	}

	/* Longer only if an operation was not successful yet. */
	now = vsvm_now_ms();
	end = now + (vsvm_debug_kernel() ? 8000 : 5000);
	last = now + TIMEOUT * 1000 / 4;
	for (round = 0; !atomic_load(&s.stop) &&
	     (now < end || (now < last && !all_done())); round++) {
		usleep(100000);
		now = vsvm_now_ms();
		pthread_rwlock_wrlock(&s.lock);
		if (round % 2) {
			reset_chunk(round / 2 % CHUNKS);
			pthread_rwlock_unlock(&s.lock);
			continue;
		}
		pid = fork();
		if (!pid)
			_exit(child());
		pthread_rwlock_unlock(&s.lock);
		did(FORK, pid < 0 ? errno : 0);
		if (pid < 0)
			break;
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		EXPECT_EQ(0, status);
	}

	atomic_store(&s.stop, true);
	for (i = 0; i < ARRAY_SIZE(fn); i++) {
		pthread_join(thread[i].id, NULL);
		vsvm_gpu_close(&thread[i].gpu);
		EXPECT_EQ(0, thread[i].error)
			TH_LOG("%s, page %ld", thread[i].what, thread[i].page);
	}
	EXPECT_EQ(-1, bad_page());

	for (i = 0; i < OWNERS; i++)
		EXPECT_LT(0, s.rounds[i]);
	for (i = 0; i < OPS; i++) {
		TH_LOG("%s: %lu of %lu", ops[i].name, s.done[i], s.tried[i]);
		EXPECT_LT(0, s.done[i]);
		EXPECT_EQ(0, s.unexpected[i]);
	}
	if (swap)
		EXPECT_LT(swapped, vsvm_file_figure("/proc/vmstat", "pswpout"));
}

/* One huge page, with nobody else at work on it */
FIXTURE(page) {
	struct vsvm_gpu gpu;
	char *mem;
};

FIXTURE_SETUP(page)
{
	if (access(THP, F_OK))
		SKIP(return, "the kernel has no huge pages");
	ASSERT_EQ(0, vsvm_gpu_open(&self->gpu, 0));
	self->mem = vsvm_alloc(HUGE, HUGE);
	ASSERT_NE(NULL, self->mem);
	ASSERT_EQ(0, madvise(self->mem, HUGE, MADV_HUGEPAGE));
	vsvm_fill(self->mem, HUGE, 1);
	if (vsvm_mapped_huge(self->mem, HUGE) != HUGE)
		SKIP(return, "no huge page");
}

FIXTURE_TEARDOWN(page)
{
	munmap(self->mem, HUGE);
	EXPECT_EQ(0, vsvm_wait_used(self->gpu.fd, self->gpu.stats.vram_used));
	vsvm_gpu_close(&self->gpu);
}

/* All of it, which may take more than a try. */
static int to_device(const struct vsvm_gpu *gpu, char *mem)
{
	int i, ret = -EBUSY;

	for (i = 0; ret == -EBUSY && i < 50; i++) {
		ret = vsvm_prefetch(gpu, mem, HUGE, DRM_VSVM_PLACE_DEVICE);
		if (ret == -EBUSY)
			usleep(10000);
	}
	return ret;
}

/* What was huge before it went to the device, which may take base pages only */
static long huge_on_return(const struct vsvm_gpu *gpu)
{
	return vsvm_coherent(gpu) ? 0 : HUGE;
}

TEST_F(page, is_huge_after_cpu_fault)
{
	if (vsvm_coherent(&self->gpu))
		SKIP(return, "the CPU accesses device memory in place");

	ASSERT_EQ(0, to_device(&self->gpu, self->mem));
	EXPECT_EQ(0, vsvm_mapped_huge(self->mem, HUGE));
	load((uint64_t *)(self->mem + HUGE / 2));
	EXPECT_EQ(HUGE, vsvm_mapped_huge(self->mem, HUGE));
	EXPECT_EQ(-1, vsvm_verify(self->mem, HUGE, 1));
}

TEST_F(page, is_huge_after_prefetch_to_system)
{
	ASSERT_EQ(0, to_device(&self->gpu, self->mem));
	ASSERT_EQ(0, vsvm_prefetch(&self->gpu, self->mem, HUGE,
				   DRM_VSVM_PLACE_SYSTEM));
	EXPECT_EQ(huge_on_return(&self->gpu),
		  vsvm_mapped_huge(self->mem, HUGE));
	EXPECT_EQ(-1, vsvm_verify(self->mem, HUGE, 1));
}

TEST_F(page, is_huge_after_eviction)
{
	size_t size = self->gpu.query.vram_size / HUGE * HUGE, i;
	char *other = vsvm_alloc(size, HUGE);

	ASSERT_NE(NULL, other);
	ASSERT_EQ(0, to_device(&self->gpu, self->mem));
	for (i = 0; i < size; i += HUGE)
		EXPECT_EQ(0, to_device(&self->gpu, other + i));
	EXPECT_EQ(huge_on_return(&self->gpu),
		  vsvm_mapped_huge(self->mem, HUGE));
	EXPECT_EQ(-1, vsvm_verify(self->mem, HUGE, 1));
	munmap(other, size);
}

/* What was only read is the huge zero page; the device gets pages of its own. */
TEST_F(page, of_zeroes)
{
	char *mem = vsvm_alloc(HUGE, HUGE);

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, madvise(mem, HUGE, MADV_HUGEPAGE));
	EXPECT_EQ(-1, vsvm_verify_value(mem, HUGE, 0));
	ASSERT_EQ(0, to_device(&self->gpu, mem));
	EXPECT_EQ(HUGE / getpagesize(),
		  vsvm_count(&self->gpu, mem, HUGE, DRM_VSVM_PLACE_DEVICE));
	EXPECT_EQ(0, vsvm_gpu_fill(&self->gpu, mem, HUGE / 2, 7));
	EXPECT_EQ(-1, vsvm_verify_value(mem, HUGE / 2, 7));
	EXPECT_EQ(-1, vsvm_verify_value(mem + HUGE / 2, HUGE / 2, 0));
	munmap(mem, HUGE);
}

/* Of two mappings that the pages could be in, the one they were moved from is empty. */
TEST_F(page, moved_and_evicted)
{
	size_t size = self->gpu.query.vram_size / HUGE * HUGE, i;
	char *other = vsvm_alloc(size, HUGE);
	char *from = vsvm_alloc(2 * HUGE, HUGE);
	char *to = vsvm_alloc(HUGE, HUGE);

	ASSERT_TRUE(other && from && to);
	ASSERT_EQ(0, madvise(from, 2 * HUGE, MADV_HUGEPAGE));
	vsvm_fill(from, HUGE, 2);
	if (vsvm_mapped_huge(from, HUGE) != HUGE)
		SKIP(return, "no huge page");
	ASSERT_EQ(0, to_device(&self->gpu, from));
	ASSERT_EQ(to, mremap(from, HUGE, HUGE, MREMAP_MAYMOVE |
			     MREMAP_FIXED | MREMAP_DONTUNMAP, to));
	for (i = 0; i < size; i += HUGE)
		EXPECT_EQ(0, to_device(&self->gpu, other + i));
	EXPECT_EQ(huge_on_return(&self->gpu), vsvm_mapped_huge(to, HUGE));
	EXPECT_EQ(-1, vsvm_verify(to, HUGE, 2));
	EXPECT_EQ(-1, vsvm_verify_value(from, HUGE, 0));
	munmap(other, size);
	munmap(from, 2 * HUGE);
	munmap(to, HUGE);
}

/* A child could map what its parent has written since, but does not. */
TEST_F(page, not_of_child)
{
	size_t size = self->gpu.query.vram_size / HUGE * HUGE, i;
	char *other = vsvm_alloc(size, HUGE);
	char *mem = vsvm_alloc(2 * HUGE, HUGE);
	long huge, back;
	int pipefd[2];
	pid_t pid;
	char c;

	ASSERT_TRUE(other && mem);
	ASSERT_EQ(0, madvise(mem, 2 * HUGE, MADV_HUGEPAGE));
	vsvm_fill(mem + HUGE, getpagesize(), 1);
	ASSERT_EQ(0, pipe(pipefd));
	pid = fork();
	if (!pid) {
		close(pipefd[1]);
		_exit(read(pipefd[0], &c, 1) == 1 ? 0 : 1);
	}
	close(pipefd[0]);
	ASSERT_LT(0, pid);

	vsvm_fill(mem, HUGE, 2);
	huge = vsvm_mapped_huge(mem, 2 * HUGE);
	EXPECT_EQ(0, to_device(&self->gpu, mem));
	for (i = 0; i < size; i += HUGE)
		EXPECT_EQ(0, to_device(&self->gpu, other + i));
	EXPECT_EQ(HUGE, vsvm_count(&self->gpu, mem, HUGE, DRM_VSVM_PLACE_SYSTEM) *
			getpagesize());
	back = vsvm_mapped_huge(mem, 2 * HUGE);
	EXPECT_EQ(-1, vsvm_verify(mem, HUGE, 2));
	EXPECT_EQ(1, write(pipefd[1], "", 1));
	close(pipefd[1]);
	EXPECT_EQ(0, vsvm_wait_child(pid));
	munmap(other, size);
	munmap(mem, 2 * HUGE);
	if (huge != 2 * HUGE)
		SKIP(return, "no huge page");
	EXPECT_EQ(HUGE + huge_on_return(&self->gpu), back);
}

static void *load_once(void *mem)
{
	load(mem);
	return NULL;
}

/* What is discarded is gone, also at the moment when it becomes a huge page again. */
TEST_F_TIMEOUT(page, discarded_as_it_comes_back, TIMEOUT)
{
	double end = vsvm_now_ms() + (vsvm_debug_kernel() ? 20000 : 10000);
	double began, took, wait;
	unsigned int random = 1, round;
	pthread_t reader;

	if (vsvm_coherent(&self->gpu))
		SKIP(return, "the CPU accesses device memory in place");

	ASSERT_EQ(0, to_device(&self->gpu, self->mem));
	began = vsvm_now_ms();
	load((uint64_t *)self->mem);
	took = vsvm_now_ms() - began;

	for (round = 0; vsvm_now_ms() < end; round++) {
		vsvm_fill(self->mem, HUGE, 1);
		ASSERT_EQ(0, to_device(&self->gpu, self->mem));
		wait = 2 * took * rand_r(&random) / RAND_MAX;
		ASSERT_EQ(0, pthread_create(&reader, NULL, load_once, self->mem));
		for (began = vsvm_now_ms(); vsvm_now_ms() < began + wait;)
			;
		ASSERT_EQ(0, madvise(self->mem, HUGE, MADV_DONTNEED));
		ASSERT_EQ(0, pthread_join(reader, NULL));
		ASSERT_EQ(-1, vsvm_verify_value(self->mem, HUGE, 0))
			TH_LOG("in round %u", round);
	}
	TH_LOG("%u rounds", round);
}

/* What is shared by fork() is split for both, and stays so. */
TEST_F(page, shared_by_fork)
{
	int pipefd[2];
	pid_t pid;
	char c;

	ASSERT_EQ(0, pipe(pipefd));
	pid = fork();
	if (!pid) {
		close(pipefd[1]);
		if (read(pipefd[0], &c, 1) != 1)
			_exit(1);
		_exit(vsvm_verify(self->mem, HUGE, 1) == -1 ? 0 : 2);
	}
	close(pipefd[0]);
	ASSERT_LT(0, pid);
	EXPECT_EQ(0, to_device(&self->gpu, self->mem));
	EXPECT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem, HUGE / 2, 7));
	EXPECT_EQ(1, write(pipefd[1], "", 1));
	close(pipefd[1]);
	EXPECT_EQ(0, vsvm_wait_child(pid));
	EXPECT_EQ(-1, vsvm_verify_value(self->mem, HUGE / 2, 7));
}

/* Where a part of it was unmapped, protected or moved, base pages come back. */
TEST_F(page, changed_on_device)
{
	size_t part = HUGE / 8;
	char *moved;

	ASSERT_EQ(0, to_device(&self->gpu, self->mem));
	EXPECT_EQ(0, munmap(self->mem + part, part));
	EXPECT_EQ(0, mprotect(self->mem + 2 * part, part, PROT_READ));
	moved = mremap(self->mem + 3 * part, part, part,
		       MREMAP_MAYMOVE);
	ASSERT_NE(MAP_FAILED, moved);
	vsvm_fill(self->mem, part, 2);
	EXPECT_EQ(0, mprotect(self->mem + 2 * part, part,
			      PROT_READ | PROT_WRITE));
	EXPECT_EQ(-1, vsvm_verify(self->mem, part, 2));
	EXPECT_EQ(0, vsvm_mapped_huge(self->mem, HUGE));
	EXPECT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem + 4 * part, part, 3));
	EXPECT_EQ(-1, vsvm_verify_value(self->mem + 4 * part, part, 3));
}

/* Bytes of locked memory that the kernel knows of; not all that were unlocked. */
static long mlocked(void)
{
	/* Fold the counts of each CPU into the sum. */
	vsvm_write_file("/proc/sys/vm/stat_refresh", "1");
	return vsvm_file_figure("/proc/meminfo", "Mlocked") * 1024;
}

/* It comes back as locked memory, by whatever way. */
TEST_F(page, locked)
{
	/* The rest may go before it is counted: a batch for each CPU. */
	long most = mlocked() + HUGE / 2;
	bool coherent = vsvm_coherent(&self->gpu);

	ASSERT_EQ(0, to_device(&self->gpu, self->mem));
	ASSERT_EQ(0, mlock(self->mem, HUGE));
	EXPECT_EQ(-1, vsvm_verify(self->mem, HUGE, 1));
	EXPECT_EQ(!coherent, mlocked() > most);
	EXPECT_EQ(0, to_device(&self->gpu, self->mem));
	EXPECT_EQ(-1, vsvm_verify(self->mem, HUGE, 1));
	EXPECT_EQ(!coherent, mlocked() > most);
	EXPECT_EQ(0, to_device(&self->gpu, self->mem));
	EXPECT_EQ(0, vsvm_prefetch(&self->gpu, self->mem, HUGE,
				   DRM_VSVM_PLACE_SYSTEM));
	EXPECT_LT(most, mlocked());
	EXPECT_EQ(-1, vsvm_verify(self->mem, HUGE, 1));
	EXPECT_EQ(0, munlock(self->mem, HUGE));
}

static int clear_soft_dirty(void)
{
	return vsvm_write_file("/proc/self/clear_refs", "4");
}

/* Bytes of the pages that were written to since */
static long soft_dirty(const char *mem)
{
	return vsvm_count_bits(mem, HUGE / getpagesize(), PM_SOFT_DIRTY) *
	       getpagesize();
}

static void expect_soft_dirty(struct __test_metadata *_metadata,
			      struct _test_data_page *self, long size)
{
	EXPECT_EQ(size, soft_dirty(self->mem));
	EXPECT_EQ(0, to_device(&self->gpu, self->mem));
	EXPECT_EQ(size, soft_dirty(self->mem));
	EXPECT_EQ(0, vsvm_prefetch(&self->gpu, self->mem, HUGE,
				   DRM_VSVM_PLACE_SYSTEM));
	EXPECT_EQ(huge_on_return(&self->gpu),
		  vsvm_mapped_huge(self->mem, HUGE));
	EXPECT_EQ(size, soft_dirty(self->mem));
}

/* What was written to is known as that, wherever it goes, and nothing else is. */
TEST_F(page, soft_dirty)
{
	if (!vsvm_has_soft_dirty())
		SKIP(return, "no soft-dirty bits");

	ASSERT_EQ(0, clear_soft_dirty());
	expect_soft_dirty(_metadata, self, 0);
	vsvm_fill(self->mem, HUGE, 2);
	expect_soft_dirty(_metadata, self, HUGE);
	ASSERT_EQ(0, clear_soft_dirty());
	expect_soft_dirty(_metadata, self, 0);

	ASSERT_EQ(0, to_device(&self->gpu, self->mem));
	ASSERT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem, HUGE, 3));
	expect_soft_dirty(_metadata, self, HUGE);
	EXPECT_EQ(-1, vsvm_verify_value(self->mem, HUGE, 3));
}

struct mover {
	pthread_t id;
	void *mem;
	atomic_bool stop;
	atomic_ulong begun;
	double took;
	unsigned long moved;
};

/* From one node to the other, which needs neither the CPU nor the mmap lock */
static void *move_between_nodes(void *arg)
{
	int node = 0, status = -1;
	struct mover *m = arg;
	double began;

	while (!atomic_load(&m->stop)) {
		node = !node;
		atomic_fetch_add(&m->begun, 1);
		began = vsvm_now_ms();
		if (!syscall(SYS_move_pages, 0, 1UL, &m->mem, &node, &status,
			     MPOL_MF_MOVE))
			m->moved += status == node;
		m->took = vsvm_now_ms() - began;
	}
	return NULL;
}

/* Wait until a move has begun, and then for a part of the time that one takes. */
static void wait_for_move(struct mover *m, unsigned int *random)
{
	unsigned long begun = atomic_load(&m->begun);
	double until;

	while (atomic_load(&m->begun) == begun)
		sched_yield();
	until = vsvm_now_ms() + m->took * rand_r(random) / RAND_MAX;
	while (vsvm_now_ms() < until)
		;
}

/* A write to a huge page shows, also if it was on the move when that was asked for. */
TEST_F_TIMEOUT(page, soft_dirty_on_the_move, TIMEOUT)
{
	double end = vsvm_now_ms() + (vsvm_debug_kernel() ? 10000 : 5000);
	struct mover m = { .mem = self->mem };
	uint64_t *word = (uint64_t *)self->mem;
	unsigned long round = 0, lost = 0;
	unsigned int random = 1;
	long huge = HUGE;

	if (!vsvm_has_soft_dirty())
		SKIP(return, "no soft-dirty bits");
	if (access("/sys/devices/system/node/node1", F_OK))
		SKIP(return, "one node only");

	ASSERT_EQ(0, pthread_create(&m.id, NULL, move_between_nodes, &m));
	/* As long as there is room for it as a whole */
	while (huge == HUGE && (vsvm_now_ms() < end || round < 50)) {
		/* What is dirty is soft-dirty as well when it has moved. */
		EXPECT_EQ(0, madvise(self->mem, HUGE, MADV_FREE));
		wait_for_move(&m, &random);
		EXPECT_EQ(0, clear_soft_dirty());
		store(word, ++round);
		lost += vsvm_count_bits(word, 1, PM_SOFT_DIRTY) != 1;
		if (round % 16 == 0)
			huge = vsvm_mapped_huge(self->mem, HUGE);
	}
	atomic_store(&m.stop, true);
	pthread_join(m.id, NULL);
	EXPECT_EQ(0, lost);
	EXPECT_EQ(round, load(word));
	TH_LOG("%lu rounds, %lu moves, huge: %ld", round, m.moved, huge);
}

#define MOVE_SECONDS	4
/* After which a migration has begun, or is done. */
#define MOVE_MAX_US	4000

struct migrator {
	struct vsvm_gpu gpu;
	char *mem;
	atomic_int begun, done;
};

/* To the device, as much as is there and can move, whenever it is told to. */
static void *move_when_told(void *arg)
{
	struct migrator *m = arg;
	int round = 0, begun;

	while ((begun = atomic_load(&m->begun)) >= 0) {
		if (begun == round) {
			sched_yield();
			continue;
		}
		round = begun;
		vsvm_prefetch(&m->gpu, m->mem, HUGE, DRM_VSVM_PLACE_DEVICE);
		atomic_store(&m->done, round);
	}
	return NULL;
}

/* Without a page table, where there would be no huge page. */
static int map_anew(char *mem)
{
	if (mmap(mem, HUGE, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != mem)
		return -errno;
	return madvise(mem, HUGE, MADV_HUGEPAGE) ? -errno : 0;
}

/* Returns how many bytes were moved, in a few tries. */
static size_t uffd_move(int uffd, char *to, char *from)
{
	struct uffdio_move move;
	size_t done = 0;
	int tries;

	for (tries = 0; tries < 20 && done < HUGE; tries++) {
		move = (struct uffdio_move) {
			.dst = (uintptr_t)to + done,
			.src = (uintptr_t)from + done,
			.len = HUGE - done,
			.mode = UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES,
		};
		if (ioctl(uffd, UFFDIO_MOVE, &move) && move.move < 0)
			continue;
		done += move.move;
	}
	return done;
}

/* UFFDIO_MOVE of a huge page that is under migration. */
TEST_F_TIMEOUT(page, moved_by_userfaultfd, TIMEOUT)
{
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_MOVE };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	struct migrator m = { .gpu = self->gpu, .mem = self->mem };
	double end = vsvm_now_ms() + MOVE_SECONDS * 1000;
	unsigned int random = 1;
	pthread_t thread;
	long whole = 0;
	int uffd, round;
	size_t moved;
	char *to;

	uffd = syscall(__NR_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api))
		SKIP(return, "no UFFDIO_MOVE");
	to = vsvm_alloc(HUGE, HUGE);
	ASSERT_NE(NULL, to);
	reg.range.start = (uintptr_t)to;
	reg.range.len = HUGE;

	ASSERT_EQ(0, pthread_create(&thread, NULL, move_when_told, &m));
	/* Until it has met one at least that can be moved whole. */
	for (round = 1; vsvm_now_ms() < end || !whole; round++) {
		ASSERT_EQ(0, map_anew(to));
		ASSERT_EQ(0, ioctl(uffd, UFFDIO_REGISTER, &reg));
		ASSERT_EQ(0, map_anew(self->mem));
		store((uint64_t *)self->mem, round);
		atomic_store(&m.begun, round);
		usleep(rand_r(&random) % MOVE_MAX_US);
		moved = uffd_move(uffd, to, self->mem);
		whole += moved == HUGE;
		if (moved)
			EXPECT_EQ(round, load((uint64_t *)to));
		while (atomic_load(&m.done) != round)
			sched_yield();
	}
	atomic_store(&m.begun, -1);
	EXPECT_EQ(0, pthread_join(thread, NULL));
	TH_LOG("%d rounds, %ld of the whole range", round, whole);
	close(uffd);
}

#define STATS_DIR "/sys/kernel/mm/transparent_hugepage/hugepages-2048kB/stats/"

static long nr_huge(void)
{
	return vsvm_file_figure("/proc/vmstat", "nr_anon_transparent_hugepages");
}

static long nr_anon_folios(void)
{
	return vsvm_file_figure(STATS_DIR "nr_anon", "");
}

/* Each huge page is counted once, wherever it goes. */
TEST_F(page, statistics)
{
	long huge = nr_huge(), folios = nr_anon_folios();
	int i;

	if (vsvm_coherent(&self->gpu))
		SKIP(return, "device memory takes base pages only");

	for (i = 0; i < 20; i++) {
		ASSERT_EQ(0, to_device(&self->gpu, self->mem));
		if (i % 2) {
			ASSERT_EQ(0, vsvm_prefetch(&self->gpu, self->mem, HUGE,
						   DRM_VSVM_PLACE_SYSTEM));
		} else {
			load((uint64_t *)self->mem);
		}
		ASSERT_EQ(HUGE, vsvm_mapped_huge(self->mem, HUGE));
	}
	for (i = 0; i < 100 && (nr_huge() != huge ||
				nr_anon_folios() != folios); i++)
		usleep(20000);
	EXPECT_EQ(huge, nr_huge());
	EXPECT_EQ(folios, nr_anon_folios());
	EXPECT_EQ(-1, vsvm_verify(self->mem, HUGE, 1));
}

TEST_HARNESS_MAIN
