/* A stand-in for libnvidia-ml.so.1: real pynvml runs against it, no GPU is needed, and the truth is known.
 *
 * Build: gcc -shared -fPIC -O2 -Wl,-soname,libnvidia-ml.so.1 -o libnvidia-ml.so.1 nvml_standin.c -lm -lpthread   (standin.py does it)
 *
 * Everything comes from one file, named by the environment variable NVML_STANDIN and mapped at nvmlInit: what devices there are,
 * how their sensors behave, what is wrong with them, and a log of their true power that the workload, in any process, appends to. Its
 * writer is standin.py; the structs below and their ctypes twins there must stay the same. What the counter and each power field show follows the
 * rule in sensor.py, step by step as simulated.py does it, in the time of CLOCK_MONOTONIC.
 *
 * A power change that is published a few microseconds after its time stamp may come too late for a tick that falls between the two: an
 * error of microseconds times watts.
 *
 * It also answers the four calls of libcuda.so.1 that ask for CUDA's own order of the devices.
 */
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MAGIC 0x3153504d43475247ULL
#define MAX_DEVICES 16
#define MAX_HOLDERS 32
#define SLOW_READ_NS 300000000LL

enum {
    SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NO_PERMISSION = 4, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7,
    DRIVER_NOT_LOADED = 9, GPU_IS_LOST = 15, LIB_RM_VERSION_MISMATCH = 18, ARGUMENT_VERSION_MISMATCH = 25
};

/* Bits of device.faults, in the order of _DEVICE_FAULTS in standin.py. */
enum {
    F_LOST = 1 << 0, F_NOT_SUPPORTED = 1 << 1, F_NO_ENERGY = 1 << 2, F_THROTTLED = 1 << 3, F_SW_THERMAL = 1 << 4, F_POWER_BRAKE = 1 << 5,
    F_POWER_CAP = 1 << 6, F_FOREIGN = 1 << 7, F_NO_OWN_PID = 1 << 8, F_MIG = 1 << 9, F_SLOW_READ = 1 << 10, F_NO_PERMISSION = 1 << 11
};

struct header {
    uint64_t magic;
    int64_t start_ns;
    uint64_t devices_at, device_size, events_at, events_per_device;
    uint32_t devices;
    int32_t init_error;
    int32_t cuda_version;
    uint32_t unused;
    char driver[80], nvml[80];
};

/* In the order of Sensors in sensor.py. */
enum { COUNTER, DRAW, AVERAGE, INSTANT, MODULE, CHANNELS };

struct channel {
    double update_s, window_s, gain, offset_w, quantum_j, quantum_w, jitter_s, rise_s, phase_s, read_s;
    uint32_t exists, read_busy;
};

struct device {
    struct channel channels[CHANNELS];
    double power_limit_w;
    uint64_t faults;   /* bits */
    int64_t reset_ns;  /* when the counter restarted at zero; 0: never */
    int64_t stuck_ns;  /* since when it stands still; 0: it does not */
    uint64_t events;   /* how many of the log are published */
    int32_t cuda_rank; /* place in CUDA's own order */
    uint32_t bus;
    char name[96], uuid[96], bus_id[32];
    uint32_t holders[MAX_HOLDERS]; /* processes that have worked here, and hold memory until they end; 0: none */
};

struct event { int64_t t_ns; double watts; };

/* What one process knows of one channel: prefix sums over the log, and where the channel was at its last tick. */
struct follow {
    double *sensed_w, *sensed_j; /* sensed power and its integral at the start of each segment */
    uint64_t known, room;
    int64_t index, last_ns, next_ns, window_ns;
    double power_w, counted_j;
};

struct state {
    struct follow channels[CHANNELS];
    double zero_j, stuck_j;
    int64_t reset_seen_ns, stuck_seen_ns;
};

static struct header *head;
static size_t mapped;
static struct state states[MAX_DEVICES];
static int users;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void sleep_ns(int64_t ns)
{
    struct timespec t = { ns / 1000000000LL, ns % 1000000000LL };
    if (ns > 0)
        nanosleep(&t, NULL);
}

/* Keep this thread's CPU at work for so long, as a real driver's call does; on a busy machine that takes longer than it costs. */
static void compute_ns(int64_t ns)
{
    struct timespec t;
    int64_t until = -1, now;
    do {
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
        now = (int64_t)t.tv_sec * 1000000000LL + t.tv_nsec;
        if (until < 0) until = now + ns;
    } while (now < until);
}

static struct device *device_at(unsigned i) { return (struct device *)((char *)head + head->devices_at + i * head->device_size); }
static struct event *log_of(unsigned i) { return (struct event *)((char *)head + head->events_at) + i * head->events_per_device; }

/* ---- the sensor ---- */

static int64_t in_ns(double seconds) { return (int64_t)floor(seconds * 1e9 + 0.5); }
static double rounded_down(double value, double quantum) { return floor(value / quantum + 1e-6) * quantum; }

static double uniform(int64_t index)
{
    uint64_t z = (uint64_t)index * 0x9E3779B97F4A7C15ULL + 0x9E3779B97F4A7C15ULL;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
    return (double)((z ^ (z >> 31)) >> 11) / 9007199254740992.0;
}

/* One channel of one device, with all that is needed to follow it. */
struct view { const struct event *log; const uint64_t *events; const struct channel *c; struct follow *f; };

static struct view view_of(unsigned i, unsigned channel)
{
    return (struct view){ log_of(i), &device_at(i)->events, &device_at(i)->channels[channel], &states[i].channels[channel] };
}

static int64_t tick_ns(const struct channel *c, int64_t index)
{
    int64_t at = head->start_ns + in_ns(c->phase_s) + index * in_ns(c->update_s);
    if (c->jitter_s != 0)
        at += (int64_t)floor((2 * uniform(index) - 1) * c->jitter_s * 1e9);
    return at;
}

static void sensed_after(struct view v, uint64_t k, double seconds, double *watts, double *joules)
{
    double power = v.log[k].watts, rise = v.c->rise_s, start = v.f->sensed_w[k], left;
    if (rise == 0) {
        *watts = power;
        *joules = v.f->sensed_j[k] + power * seconds;
    } else if (seconds <= 0) {
        *watts = start;
        *joules = v.f->sensed_j[k] + start * seconds;
    } else {
        left = exp(-seconds / rise);
        *watts = power + (start - power) * left;
        *joules = v.f->sensed_j[k] + power * seconds + (start - power) * rise * (1 - left);
    }
}

static double sensed_until(struct view v, int64_t t_ns)
{
    uint64_t low = 0, high = v.f->known; /* the last event at or before t_ns, or the first */
    double watts, joules;
    while (high - low > 1) {
        uint64_t middle = low + (high - low) / 2;
        if (v.log[middle].t_ns <= t_ns) low = middle; else high = middle;
    }
    sensed_after(v, low, (double)(t_ns - v.log[low].t_ns) / 1e9, &watts, &joules);
    return joules;
}

static int learn(struct view v)
{
    struct follow *f = v.f;
    uint64_t published = __atomic_load_n(v.events, __ATOMIC_ACQUIRE);
    if (published > f->room) {
        uint64_t room = published * 2 + 64;
        double *watts = realloc(f->sensed_w, room * sizeof *watts);
        if (watts) f->sensed_w = watts;
        double *joules = realloc(f->sensed_j, room * sizeof *joules);
        if (joules) f->sensed_j = joules;
        if (!watts || !joules) return -1;
        f->room = room;
    }
    for (; f->known < published; f->known++) {
        uint64_t k = f->known;
        if (k == 0) {
            f->sensed_j[0] = 0;
            f->sensed_w[0] = v.log[0].watts;
        } else {
            double seconds = (double)(v.log[k].t_ns - v.log[k - 1].t_ns) / 1e9;
            sensed_after(v, k - 1, seconds, &f->sensed_w[k], &f->sensed_j[k]);
        }
    }
    return 0;
}

static double power_at(struct view v, int64_t t_ns)
{
    int64_t window = v.f->window_ns;
    double mean = (sensed_until(v, t_ns) - sensed_until(v, t_ns - window)) / ((double)window / 1e9);
    double watts = mean * v.c->gain + v.c->offset_w;
    return watts > 0 ? watts : 0;
}

static void advance(struct view v, int64_t t_ns)
{
    struct follow *f = v.f;
    while (f->next_ns <= t_ns) {
        f->power_w = power_at(v, f->next_ns);
        f->counted_j += f->power_w * ((double)(f->next_ns - f->last_ns) / 1e9);
        f->last_ns = f->next_ns;
        f->next_ns = tick_ns(v.c, ++f->index);
    }
}

static void start_channel(struct view v)
{
    struct follow *f = v.f;
    free(f->sensed_w);
    free(f->sensed_j);
    memset(f, 0, sizeof *f);
    if (!v.c->exists || learn(v) != 0 || f->known == 0) return;
    f->window_ns = in_ns(v.c->window_s) > 0 ? in_ns(v.c->window_s) : 1;
    f->last_ns = tick_ns(v.c, -1);
    f->next_ns = tick_ns(v.c, 0);
    f->power_w = power_at(v, f->last_ns);
}

static void start(unsigned i)
{
    for (unsigned channel = 0; channel < CHANNELS; channel++) start_channel(view_of(i, channel));
    states[i].zero_j = states[i].stuck_j = 0;
    states[i].reset_seen_ns = states[i].stuck_seen_ns = 0;
}

/* A power field in watts. Here and in shown_j, times may not run backwards. */
static double shown_w(unsigned i, unsigned channel, int64_t t_ns)
{
    struct view v = view_of(i, channel);
    learn(v);
    advance(v, t_ns);
    return rounded_down(v.f->power_w, v.c->quantum_w);
}

/* The energy counter in joules. */
static double shown_j(unsigned i, int64_t t_ns)
{
    struct state *s = &states[i];
    struct device *d = device_at(i);
    struct view v = view_of(i, COUNTER);
    int64_t reset_ns = __atomic_load_n(&d->reset_ns, __ATOMIC_ACQUIRE), stuck_ns = __atomic_load_n(&d->stuck_ns, __ATOMIC_ACQUIRE);
    learn(v);
    if (reset_ns && reset_ns != s->reset_seen_ns && reset_ns <= t_ns) {
        advance(v, reset_ns);
        s->zero_j = v.f->counted_j;
        s->stuck_j = 0;
        s->reset_seen_ns = reset_ns;
    }
    if (stuck_ns && stuck_ns != s->stuck_seen_ns && stuck_ns <= t_ns) {
        advance(v, stuck_ns);
        s->stuck_j = v.f->counted_j - s->zero_j;
        s->stuck_seen_ns = stuck_ns;
    }
    advance(v, t_ns);
    return rounded_down(stuck_ns && stuck_ns <= t_ns ? s->stuck_j : v.f->counted_j - s->zero_j, v.c->quantum_j);
}

/* Millijoules of the counter or milliwatts of a power field at t_ns. */
static unsigned long long show(unsigned i, unsigned channel, int64_t t_ns)
{
    return (unsigned long long)llround((channel == COUNTER ? shown_j(i, t_ns) : shown_w(i, channel, t_ns)) * 1e3);
}

/* For tests: what a channel of device i shows at a moment of the caller's choice. */
int greencompute_standin_at(unsigned i, unsigned channel, int64_t t_ns, unsigned long long *to)
{
    if (!head) return UNINITIALIZED;
    if (i >= head->devices || channel >= CHANNELS) return INVALID_ARGUMENT;
    if (!device_at(i)->channels[channel].exists) return NOT_SUPPORTED;
    pthread_mutex_lock(&lock);
    *to = show(i, channel, t_ns);
    pthread_mutex_unlock(&lock);
    return SUCCESS;
}

/* ---- the library ---- */

static int map_state(void)
{
    const char *path = getenv("NVML_STANDIN");
    struct stat info;
    int fd = path ? open(path, O_RDWR) : -1;
    if (fd < 0) return DRIVER_NOT_LOADED;
    if (fstat(fd, &info) != 0 || (size_t)info.st_size < sizeof(struct header)) {
        close(fd);
        return DRIVER_NOT_LOADED;
    }
    void *at = mmap(NULL, (size_t)info.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (at == MAP_FAILED) return DRIVER_NOT_LOADED;
    struct header *h = at;
    if (h->magic != MAGIC || h->devices > MAX_DEVICES || h->device_size != sizeof(struct device) || h->init_error) {
        int error = h->magic == MAGIC && h->init_error ? h->init_error : DRIVER_NOT_LOADED;
        munmap(at, (size_t)info.st_size);
        return error;
    }
    if (head) munmap(head, mapped);
    head = h;
    mapped = (size_t)info.st_size;
    for (unsigned i = 0; i < head->devices; i++) start(i);
    return SUCCESS;
}

int nvmlInitWithFlags(unsigned flags)
{
    int error = SUCCESS;
    (void)flags;
    pthread_mutex_lock(&lock);
    if (users == 0) error = map_state();
    if (!error) users++;
    pthread_mutex_unlock(&lock);
    return error;
}

int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlInit(void) { return nvmlInitWithFlags(0); }

int nvmlShutdown(void)
{
    int error = SUCCESS;
    pthread_mutex_lock(&lock);
    if (users == 0) error = UNINITIALIZED; else users--;
    pthread_mutex_unlock(&lock);
    return error;
}

const char *nvmlErrorString(int error)
{
    switch (error) {
    case SUCCESS: return "Success";
    case UNINITIALIZED: return "Uninitialized";
    case INVALID_ARGUMENT: return "Invalid Argument";
    case NOT_SUPPORTED: return "Not Supported";
    case NO_PERMISSION: return "Insufficient Permissions";
    case NOT_FOUND: return "Not Found";
    case INSUFFICIENT_SIZE: return "Insufficient Size";
    case DRIVER_NOT_LOADED: return "Driver Not Loaded";
    case GPU_IS_LOST: return "GPU is lost";
    case LIB_RM_VERSION_MISMATCH: return "Driver/library version mismatch";
    case ARGUMENT_VERSION_MISMATCH: return "Argument version mismatch";
    default: return "Unknown Error";
    }
}

static int put(char *to, unsigned room, const char *text)
{
    if (strlen(text) + 1 > room) return INSUFFICIENT_SIZE;
    strcpy(to, text);
    return SUCCESS;
}

#define NEED_INIT if (users == 0 || !head) return UNINITIALIZED

int nvmlSystemGetDriverVersion(char *to, unsigned room) { NEED_INIT; return put(to, room, head->driver); }
int nvmlSystemGetNVMLVersion(char *to, unsigned room) { NEED_INIT; return put(to, room, head->nvml); }
int nvmlSystemGetCudaDriverVersion(int *to) { NEED_INIT; *to = head->cuda_version; return SUCCESS; }
int nvmlSystemGetCudaDriverVersion_v2(int *to) { NEED_INIT; *to = head->cuda_version; return SUCCESS; }
int nvmlDeviceGetCount_v2(unsigned *to) { NEED_INIT; *to = head->devices; return SUCCESS; }
int nvmlDeviceGetCount(unsigned *to) { return nvmlDeviceGetCount_v2(to); }

/* A handle is the device's index plus one, so that it is never NULL. */
typedef void *handle;

int nvmlDeviceGetHandleByIndex_v2(unsigned i, handle *to)
{
    NEED_INIT;
    if (i >= head->devices) return INVALID_ARGUMENT;
    *to = (handle)(uintptr_t)(i + 1);
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex(unsigned i, handle *to) { return nvmlDeviceGetHandleByIndex_v2(i, to); }

int nvmlDeviceGetHandleByUUID(const char *uuid, handle *to)
{
    NEED_INIT;
    for (unsigned i = 0; i < head->devices; i++)
        if (strcmp(uuid, device_at(i)->uuid) == 0) return nvmlDeviceGetHandleByIndex_v2(i, to);
    return NOT_FOUND;
}

int nvmlDeviceGetHandleByPciBusId_v2(const char *bus_id, handle *to)
{
    NEED_INIT;
    for (unsigned i = 0; i < head->devices; i++)
        if (strcasecmp(bus_id, device_at(i)->bus_id) == 0) return nvmlDeviceGetHandleByIndex_v2(i, to);
    return NOT_FOUND;
}

/* Finds index and device; a lost one and a Tegra answer nothing. */
static int find(handle h, unsigned *i, struct device **d)
{
    NEED_INIT;
    uintptr_t number = (uintptr_t)h;
    if (number < 1 || number > head->devices) return INVALID_ARGUMENT;
    *i = (unsigned)number - 1;
    *d = device_at(*i);
    uint64_t faults = __atomic_load_n(&(*d)->faults, __ATOMIC_ACQUIRE);
    if (faults & F_LOST) return GPU_IS_LOST;
    if (faults & F_NOT_SUPPORTED) return NOT_SUPPORTED;
    return SUCCESS;
}

#define FIND unsigned i; struct device *d; int error = find(h, &i, &d); if (error) return error; (void)i; (void)d

int nvmlDeviceGetName(handle h, char *to, unsigned room) { FIND; return put(to, room, d->name); }
int nvmlDeviceGetUUID(handle h, char *to, unsigned room) { FIND; return put(to, room, d->uuid); }
int nvmlDeviceGetIndex(handle h, unsigned *to) { FIND; *to = i; return SUCCESS; }

struct pci_info { char legacy[16]; unsigned domain, bus, device, device_id, subsystem_id; char bus_id[32]; };

int nvmlDeviceGetPciInfo_v3(handle h, struct pci_info *to)
{
    FIND;
    memset(to, 0, sizeof *to);
    to->bus = d->bus;
    to->device_id = 0x233010DE;
    snprintf(to->legacy, sizeof to->legacy, "0000:%02X:00.0", d->bus & 0xff);
    return put(to->bus_id, sizeof to->bus_id, d->bus_id);
}

static int read_channel(handle h, unsigned channel, unsigned long long *to)
{
    FIND;
    const struct channel *c = &d->channels[channel];
    if (d->faults & F_NO_PERMISSION) return NO_PERMISSION;
    if (!c->exists || (channel == COUNTER && d->faults & F_NO_ENERGY)) return NOT_SUPPORTED;
    if (d->faults & F_SLOW_READ) sleep_ns(SLOW_READ_NS);
    else if (c->read_busy) compute_ns(in_ns(c->read_s));
    else sleep_ns(in_ns(c->read_s));
    pthread_mutex_lock(&lock);
    *to = show(i, channel, now_ns());
    pthread_mutex_unlock(&lock);
    return SUCCESS;
}

int nvmlDeviceGetTotalEnergyConsumption(handle h, unsigned long long *to) { return read_channel(h, COUNTER, to); }

static int read_mw(handle h, unsigned channel, unsigned *to)
{
    unsigned long long milliwatts;
    int error = read_channel(h, channel, &milliwatts);
    if (!error) *to = (unsigned)milliwatts;
    return error;
}

int nvmlDeviceGetPowerUsage(handle h, unsigned *to) { return read_mw(h, DRAW, to); }

enum { FI_TOTAL_ENERGY = 83, FI_POWER_AVERAGE = 185, FI_POWER_INSTANT = 186, T_UNSIGNED_INT = 1, T_UNSIGNED_LONG_LONG = 3 };

struct field {
    uint32_t id, scope;
    int64_t timestamp_us, latency_us;
    int32_t type, error;
    union { unsigned u; unsigned long long ull; } value;
};

static void read_field(handle h, struct field *f)
{
    int64_t before_ns = now_ns();
    struct timespec wall;
    f->value.ull = 0;
    f->type = f->id == FI_TOTAL_ENERGY ? T_UNSIGNED_LONG_LONG : T_UNSIGNED_INT;
    if (f->id == FI_TOTAL_ENERGY)
        f->error = nvmlDeviceGetTotalEnergyConsumption(h, &f->value.ull);
    else if (f->id == FI_POWER_INSTANT && f->scope == 1)
        f->error = read_mw(h, MODULE, &f->value.u);
    else if ((f->id == FI_POWER_AVERAGE || f->id == FI_POWER_INSTANT) && f->scope == 0) /* the GPU; no memory */
        f->error = read_mw(h, f->id == FI_POWER_AVERAGE ? AVERAGE : INSTANT, &f->value.u);
    else
        f->error = NOT_SUPPORTED;
    clock_gettime(CLOCK_REALTIME, &wall);
    f->timestamp_us = (int64_t)wall.tv_sec * 1000000LL + wall.tv_nsec / 1000;
    f->latency_us = (now_ns() - before_ns) / 1000;
}

int nvmlDeviceGetFieldValues(handle h, int count, struct field *fields)
{
    FIND;
    for (int k = 0; k < count; k++) read_field(h, &fields[k]);
    return SUCCESS;
}

struct temperature_v1 { unsigned version; int sensor, celsius; };

int nvmlDeviceGetTemperature(handle h, int sensor, unsigned *to) { FIND; (void)sensor; *to = 45; return SUCCESS; }
int nvmlDeviceGetTemperatureV(handle h, struct temperature_v1 *to) { FIND; to->celsius = 45; return SUCCESS; }

static int slowed(const struct device *d) { return (d->faults & (F_THROTTLED | F_SW_THERMAL | F_POWER_BRAKE)) != 0; }

int nvmlDeviceGetClockInfo(handle h, int type, unsigned *to) { FIND; *to = type == 2 ? 2619 : slowed(d) ? 900 : 1500; return SUCCESS; }
int nvmlDeviceGetMaxClockInfo(handle h, int type, unsigned *to) { FIND; *to = type == 2 ? 2619 : 1980; return SUCCESS; }
int nvmlDeviceGetApplicationsClock(handle h, int type, unsigned *to) { return nvmlDeviceGetMaxClockInfo(h, type, to); }
int nvmlDeviceGetEnforcedPowerLimit(handle h, unsigned *to) { FIND; *to = (unsigned)llround(d->power_limit_w * 1e3); return SUCCESS; }
int nvmlDeviceGetPowerManagementLimit(handle h, unsigned *to) { return nvmlDeviceGetEnforcedPowerLimit(h, to); }
int nvmlDeviceGetPowerManagementDefaultLimit(handle h, unsigned *to) { return nvmlDeviceGetEnforcedPowerLimit(h, to); }
int nvmlDeviceGetPersistenceMode(handle h, int *to) { FIND; *to = 1; return SUCCESS; }
int nvmlDeviceGetArchitecture(handle h, unsigned *to) { FIND; *to = 9; return SUCCESS; }
int nvmlDeviceGetCudaComputeCapability(handle h, int *major, int *minor) { FIND; *major = 9; *minor = 0; return SUCCESS; }

int nvmlDeviceGetCurrentClocksEventReasons(handle h, unsigned long long *to)
{
    FIND;
    *to = 0;
    if (d->faults & F_THROTTLED) *to |= 0x48; /* hardware slowdown, for heat */
    if (d->faults & F_SW_THERMAL) *to |= 0x20;
    if (d->faults & F_POWER_BRAKE) *to |= 0x88; /* hardware slowdown, for the power brake */
    if (d->faults & F_POWER_CAP) *to |= 0x04;
    if (!*to) *to = 0x01; /* idle */
    return SUCCESS;
}

int nvmlDeviceGetCurrentClocksThrottleReasons(handle h, unsigned long long *to) { return nvmlDeviceGetCurrentClocksEventReasons(h, to); }

struct process { unsigned pid; unsigned long long memory; unsigned gpu_instance, compute_instance; };

int nvmlDeviceGetComputeRunningProcesses_v3(handle h, unsigned *count, struct process *to)
{
    FIND;
    unsigned pids[MAX_HOLDERS + 2], have = 0, own = (unsigned)getpid();
    if (!(d->faults & F_NO_OWN_PID)) {
        pids[have++] = own;
        for (int k = 0; k < MAX_HOLDERS; k++)
            if (d->holders[k] && d->holders[k] != own && kill((pid_t)d->holders[k], 0) == 0) pids[have++] = d->holders[k];
    }
    if (d->faults & F_FOREIGN) pids[have++] = 4000000;
    unsigned room = *count;
    *count = have;
    if (have > room || (have && !to)) return INSUFFICIENT_SIZE;
    for (unsigned k = 0; k < have; k++) to[k] = (struct process){ pids[k], 1ULL << 30, 0xFFFFFFFF, 0xFFFFFFFF };
    return SUCCESS;
}

int nvmlDeviceGetComputeRunningProcesses_v2(handle h, unsigned *count, struct process *to)
{
    return nvmlDeviceGetComputeRunningProcesses_v3(h, count, to);
}

struct utilization { unsigned gpu, memory; };
struct memory { unsigned long long total, free, used; };
struct memory_v2 { unsigned version; unsigned long long total, reserved, free, used; };

int nvmlDeviceGetUtilizationRates(handle h, struct utilization *to)
{
    FIND;
    uint64_t events = __atomic_load_n(&d->events, __ATOMIC_ACQUIRE);
    to->gpu = events && log_of(i)[events - 1].watts > log_of(i)[0].watts ? 100 : 0;
    to->memory = to->gpu / 2;
    return SUCCESS;
}

int nvmlDeviceGetMemoryInfo(handle h, struct memory *to)
{
    FIND;
    *to = (struct memory){ 80ULL << 30, 79ULL << 30, 1ULL << 30 };
    return SUCCESS;
}

int nvmlDeviceGetMemoryInfo_v2(handle h, struct memory_v2 *to)
{
    FIND;
    *to = (struct memory_v2){ to->version, 80ULL << 30, 0, 79ULL << 30, 1ULL << 30 };
    return SUCCESS;
}

int nvmlDeviceGetMigMode(handle h, unsigned *current, unsigned *pending)
{
    FIND;
    *current = *pending = d->faults & F_MIG ? 1 : 0;
    return SUCCESS;
}

int nvmlDeviceGetMaxMigDeviceCount(handle h, unsigned *to)
{
    FIND;
    *to = d->faults & F_MIG ? 7 : 0;
    return SUCCESS;
}

int nvmlDeviceGetMigDeviceHandleByIndex(handle h, unsigned k, handle *to)
{
    FIND;
    (void)k;
    (void)to;
    return d->faults & F_MIG ? NOT_FOUND : NOT_SUPPORTED;
}

/* ---- CUDA's own order ---- */

int cuInit(unsigned flags) { return nvmlInitWithFlags(flags) == SUCCESS ? 0 : 100; /* CUDA_ERROR_NO_DEVICE */ }
int cuDeviceGetCount(int *to) { *to = head ? (int)head->devices : 0; return 0; }

int cuDeviceGet(int *device, int rank)
{
    for (unsigned i = 0; head && i < head->devices; i++)
        if (device_at(i)->cuda_rank == rank) {
            *device = (int)i;
            return 0;
        }
    return 101; /* CUDA_ERROR_INVALID_DEVICE */
}

int cuDeviceGetUuid(unsigned char *to, int device)
{
    if (!head || device < 0 || (unsigned)device >= head->devices) return 101;
    const char *at = device_at((unsigned)device)->uuid + 4; /* after "GPU-" */
    for (int k = 0; k < 16; k++) {
        if (*at == '-') at++;
        unsigned byte;
        if (sscanf(at, "%2x", &byte) != 1) return 999;
        to[k] = (unsigned char)byte;
        at += 2;
    }
    return 0;
}
