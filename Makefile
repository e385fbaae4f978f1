# Everything that is made lands in build/. `make help` lists the targets, `make config` shows what
# was found. NAME=0 leaves a library out though it is there, NAME=1 insists on it:
#   make OPENMP=0          make DNNL=1          make CUDA=0
# DEBUG=1 builds without optimization, WERROR=1 turns warnings into errors, CC=clang changes compiler.
# SIM=1 builds with the simulated CUDA of tests/cudasim instead of the toolkit, in build/sim.
MAKEFLAGS += --no-builtin-rules --no-print-directory
.DEFAULT_GOAL := all
ifeq ($(origin CC),default)
CC := gcc
endif
ifeq ($(origin CXX),default)
CXX := g++
endif
CUDA_HOME ?= /usr/local/cuda
BUILD ?= build$(if $(SIM),/sim)
PREFIX ?= /usr/local
ARCH ?= native

# ---- what is here -------------------------------------------------------------------------------
# have(header, expression, flags): does this compile and link? Asks the compiler, nobody else.
have = $(shell echo 'int main(void) { return !$(2); }' | \
         $(CC) -include $(1) -x c - $(3) -o /dev/null 2>/dev/null && echo 1)
# want(NAME, found): the user's NAME=0/1 wins; NAME=1 without the thing is an error, not a shrug.
want = $(strip $(if $(filter 0,$($(1))),,$(if $(2),1,$(if $(filter 1,$($(1))),\
         $(error $(1)=1, but it was not found: `make deps` installs what Debian and Ubuntu have)))))

ifeq ($(filter-out help clean format fetch,$(or $(MAKECMDGOALS),all)),)
else
# The runtime is linked statically, so that huddle starts where there is none; cuBLAS and
# cuDNN are loaded when they are wanted (src/kernels/cublas.c), for which the path to them is kept.
CUDA_FLAGS := -isystem $(CUDA_HOME)/include
CUDA_LIBS := $(foreach d,lib64 lib,-L$(CUDA_HOME)/$d -Wl,-rpath,$(CUDA_HOME)/$d) \
             -lcudart_static -lstdc++ -lrt -ldl
NVCC ?= $(firstword $(wildcard $(CUDA_HOME)/bin/nvcc) $(shell command -v nvcc 2>/dev/null))
has_cuda := $(if $(SIM),,$(call want,CUDA,$(and $(NVCC),$(call have,cublas_v2.h,sizeof(cublasHandle_t) + cudaGetLastError(),$(CUDA_FLAGS) $(CUDA_LIBS)))))
has_nccl := $(call want,NCCL,$(and $(has_cuda),$(call have,nccl.h,ncclGetErrorString(0),$(CUDA_FLAGS) $(CUDA_LIBS) -lnccl)))
has_cudnn := $(if $(SIM),$(filter-out 0,$(or $(CUDNN),1)),$(call want,CUDNN,$(and $(has_cuda),$(call have,cudnn.h,sizeof(cudnnHandle_t) + CUDNN_FMA_MATH,$(CUDA_FLAGS)))))
# A toolkit knows some of these architectures: build for those, and in PTX for GPUs to come.
SM ?= $(filter 70 75 80 86 89 90 100 120,$(if $(has_cuda),$(patsubst compute_%,%,$(shell $(NVCC) --list-gpu-arch))))
has_hwloc := $(call want,HWLOC,$(call have,hwloc.h,hwloc_get_api_version(),-lhwloc))
has_openmp := $(call want,OPENMP,$(call have,omp.h,omp_get_max_threads(),-fopenmp))
# Without OpenMP nobody could tell oneDNN's own threads how many they may be.
has_dnnl := $(if $(has_openmp),$(call want,DNNL,$(call have,dnnl.h,dnnl_version(),-ldnnl)))
has_cblas := $(if $(has_dnnl),,$(call want,CBLAS,$(call have,cblas.h,cblas_sdot,-lopenblas)))
has_lapack := $(call want,LAPACK,$(call have,lapacke.h,LAPACKE_dgeev,-llapacke))
has_zlib := $(call want,ZLIB,$(call have,zlib.h,zlibVersion(),-lz))
# Headers only: what they call is in the tool that loads itself.
NVTX_FLAGS := -isystem $(CUDA_HOME)/include/nvtx3
has_nvtx := $(call want,NVTX,$(call have,nvToolsExt.h,nvtxRangePop(),$(NVTX_FLAGS)))
has_inih := $(call have,ini.h,ini_parse_stream,-linih)
has_cjson := $(call have,cjson/cJSON.h,cJSON_Version(),-lcjson)
LINKER := $(if $(call have,stdio.h,1,-fuse-ld=gold),-fuse-ld=gold)
has_criterion := $(call have,criterion/criterion.h,criterion_initialize(),-lcriterion)
endif

# ---- flags --------------------------------------------------------------------------------------
# Static functions pass vectors of 16 floats by value: how narrower processors do that is nobody's
# business but the compiler's, hence -Wno-psabi.
WARNINGS := -Wno-psabi -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wdouble-promotion -Wstrict-prototypes \
            -Wmissing-prototypes -Wwrite-strings -Wvla -Wundef -Wpointer-arith -Wcast-qual -Wformat=2 \
            $(if $(has_openmp),,-Wno-unknown-pragmas) $(if $(WERROR),-Werror)
OPTIMIZE := $(if $(DEBUG),-O1,-O3 -march=$(ARCH)) -g -fno-omit-frame-pointer -ffp-contract=off \
            -fno-math-errno
CFLAGS := -std=c11 -D_GNU_SOURCE -Isrc $(WARNINGS) $(OPTIMIZE) -pthread $(SAN) \
          $(if $(has_openmp),-fopenmp) $(if $(has_hwloc),-DHAVE_HWLOC) $(if $(has_dnnl),-DHAVE_DNNL) \
          $(if $(has_cblas),-DHAVE_CBLAS) $(if $(has_zlib),-DHAVE_ZLIB) $(if $(has_lapack),-DHAVE_LAPACK) \
          $(if $(SIM),-DHAVE_CUDA -DHAVE_NCCL -Itests/cudasim/include) $(if $(has_cuda),-DHAVE_CUDA $(CUDA_FLAGS)) \
          $(if $(has_nccl),-DHAVE_NCCL) $(if $(has_cudnn),-DHAVE_CUDNN) $(if $(has_nvtx),-DHAVE_NVTX $(NVTX_FLAGS)) $(if $(DEBUG),-DDEBUG)
LDLIBS := $(if $(has_hwloc),-lhwloc) $(if $(has_dnnl),-ldnnl) $(if $(has_cblas),-lopenblas) \
          $(if $(has_zlib),-lz) $(if $(has_lapack),-llapacke) -linih -lcjson \
          $(if $(SIM),-lstdc++) $(if $(has_nccl),-lnccl) $(if $(has_cuda),$(CUDA_LIBS)) -lm
NVFLAGS = -std=c++17 $(if $(DEBUG),-G -g,-O3 -lineinfo) --fmad=false -Isrc -Xcompiler -Wall,-Wextra \
          $(foreach a,$(SM),-gencode arch=compute_$(a),code=sm_$(a)) --threads 0 \
          $(foreach a,$(lastword $(SM)),-gencode arch=compute_$(a),code=compute_$(a)) \
          $(if $(WERROR),-Werror all-warnings) -ccbin $(CC)
# The simulated CUDA: what nvcc compiles, and the simulation itself, as plain C++.
CXXFLAGS = -std=c++17 -Isrc -Itests/cudasim/include -Wall -Wextra -Wno-unknown-pragmas \
           $(if $(WERROR),-Werror) $(OPTIMIZE) -pthread $(SAN)

# ---- what is built ------------------------------------------------------------------------------
SRC := $(filter-out $(if $(has_cuda),,%/cublas.c $(if $(SIM),,%/cuda.c %/cuda_dnn.c)) $(if $(and $(has_cuda),$(has_cudnn)),,%/cudnn.c) $(if $(SIM)$(has_nccl),,%/nccl.c),$(sort $(wildcard src/*.c src/*/*.c)))
CU := $(if $(SIM)$(has_cuda),$(sort $(wildcard src/*/*.cu)))
CXXSRC := $(if $(SIM),$(sort $(wildcard tests/cudasim/*.cpp)))
OBJ := $(SRC:%=$(BUILD)/%.o) $(CU:%=$(BUILD)/%.o) $(CXXSRC:%=$(BUILD)/%.o)
LIB := $(filter-out $(BUILD)/src/main.c.o,$(OBJ))
TESTS := $(patsubst tests/test_%.c,$(BUILD)/tests/%,$(sort $(wildcard tests/test_*.c)))
PERF := $(patsubst perf/%_perf.c,$(BUILD)/perf/%_perf,$(sort $(wildcard perf/*_perf.c)))
FUZZ := idx cifar10 ini model safetensors
EVERY_C := $(wildcard src/*.[ch] src/*/*.[ch] src/*/*.cu src/*/*.cuh tests/*.[ch] tests/*.cu tests/cudasim/*.[hc]* tests/cudasim/include/*.h tests/fuzz/*.[ch] perf/*.[ch])

all: $(BUILD)/huddle ## build huddle

$(BUILD)/huddle: $(OBJ)
	@echo '  LINK  $@'; $(CC) $(CFLAGS) $^ $(LDLIBS) -o $@
# Objects depend on the flags they were made with: a change of CC, DEBUG or a library rebuilds them.
$(BUILD)/flags: FORCE
	@mkdir -p $(@D)
	@echo '$(CC) $(CFLAGS) $(NVCC) $(SM) $(CXX)' | cmp -s - $@ || echo '$(CC) $(CFLAGS) $(NVCC) $(SM) $(CXX)' >$@
$(BUILD)/%.c.o: %.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(QUIET)$(CC) $(CFLAGS) $(SHARE) -MMD -MP -c $< -o $@
# One object knows where huddle will be installed; another PREFIX rebuilds that one.
$(BUILD)/prefix: FORCE
	@mkdir -p $(@D)
	@echo '$(PREFIX)' | cmp -s - $@ || echo '$(PREFIX)' >$@
$(BUILD)/src/datasets/dataset.c.o: $(BUILD)/prefix
$(BUILD)/src/datasets/dataset.c.o: SHARE := -DHUDDLE_SHARE='"$(PREFIX)/share/huddle"'
$(BUILD)/%.cu.o: %.cu $(BUILD)/flags
	@mkdir -p $(@D)
	$(QUIET)$(if $(SIM),$(CXX) $(CXXFLAGS) -x c++,$(NVCC) $(NVFLAGS)) -MMD -MP -c $< -o $@
$(BUILD)/%.cpp.o: %.cpp $(BUILD)/flags
	@mkdir -p $(@D)
	$(QUIET)$(CXX) $(CXXFLAGS) -MMD -MP -c $< -o $@
# Test programs are many and run once: they are compiled and linked in a hurry.
$(BUILD)/tests/%: tests/test_%.c $(LIB)
	@mkdir -p $(@D)
	$(QUIET)$(CC) $(TESTINC) $(THISINC) $(CFLAGS:-O3=-O1) $(LINKER) -MMD -MP -MF $@.d $< $(MORE) $(LIB) $(LDLIBS) $(TESTLIB) -o $@
# The kernels of this one are for the simulated CUDA.
ifdef SIM
$(BUILD)/tests/simulated: $(BUILD)/tests/simulated.cu.o
$(BUILD)/tests/simulated: MORE := $(BUILD)/tests/simulated.cu.o
endif
$(BUILD)/tests/readme: THISINC := -I$(BUILD)/tests -DREADME_STRATEGY='"$(BUILD)/tests/readme_strategy.c"'
$(BUILD)/tests/readme: $(BUILD)/tests/readme_strategy.c
$(BUILD)/tests/readme_strategy.c: README.md
	@mkdir -p $(@D)
	@sed -n '/^```c$$/,/^```$$/{/^```/d;p}' $< >$@
$(BUILD)/tests/failing: THISINC := -DFAILING='"$(abspath $(BUILD))/tests/failing.so"'
$(BUILD)/tests/failing: $(BUILD)/tests/failing.so
$(BUILD)/tests/ranges: THISINC := -DLISTENER='"$(abspath $(BUILD))/tests/listener.so"'
$(BUILD)/tests/ranges: $(BUILD)/tests/listener.so
# Without a sanitizer: they are loaded into programs that come before theirs.
$(BUILD)/tests/%.so: tests/%.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(QUIET)$(CC) $(filter-out -fsanitize%,$(CFLAGS)) -Wno-pedantic -shared -fPIC $< -ldl -o $@
$(BUILD)/perf/%: perf/%.c $(LIB)
	@mkdir -p $(@D)
	$(QUIET)$(CC) $(CFLAGS) -DPERF_COMMIT='"$(shell git describe --always --dirty 2>/dev/null)"' -MMD -MP -MF $@.d $< $(LIB) $(LDLIBS) -o $@
$(FUZZ:%=$(BUILD)/%): $(BUILD)/%: tests/fuzz/fuzz.c $(LIB)
	$(QUIET)$(CC) -Itests $(CFLAGS) -fsanitize=fuzzer -DTARGET=fuzz_$* -MMD -MP -MF $@.d $< $(LIB) $(LDLIBS) -o $@
-include $(BUILD)/tests/simulated.cu.d $(FUZZ:%=$(BUILD)/%.d) $(OBJ:.o=.d) $(TESTS:=.d) $(PERF:=.d)
FORCE:
QUIET = @printf '  %-5s %s\n' $(if $(filter %.cpp.o,$@),CXX,$(if $(findstring tests/,$@),TEST,$(if $(filter %.cu.o,$@),$(if $(SIM),CXX,NVCC),CC))) '$<';
TESTLIB = -lcriterion

# ---- what is done with it -----------------------------------------------------------------------
demo: ## install what is missing, build, train on the digits, show the result
	@$(MAKE) deps FOR=build
	@$(MAKE) all
	$(BUILD)/huddle train
install: $(BUILD)/huddle ## huddle and the digits to PREFIX, /usr/local; DESTDIR stands in front of it
	install -d '$(DESTDIR)$(PREFIX)/bin' '$(DESTDIR)$(PREFIX)/share/huddle/data/digits'
	install -m 755 $(BUILD)/huddle '$(DESTDIR)$(PREFIX)/bin'
	install -m 644 LICENSE '$(DESTDIR)$(PREFIX)/share/huddle'
	install -m 644 data/README.md '$(DESTDIR)$(PREFIX)/share/huddle/data'
	install -m 644 data/digits/* '$(DESTDIR)$(PREFIX)/share/huddle/data/digits'
test: ## install what is missing, build, run every test
	@$(MAKE) deps FOR=test
	@$(MAKE) all run-tests
# Runs these programs with these arguments, two at a time since many wait, the longest first; what one
# says stays together. None is begun after one has failed.
LONGEST := huddle faults late resume failing easgd
by_length = $(foreach t,$(LONGEST:%=$(BUILD)/tests/%),$(filter $t,$(1))) $(filter-out $(LONGEST:%=$(BUILD)/tests/%),$(1))
run_each = @printf '%s\n' $(call by_length,$(1)) | HUDDLE=$(BUILD)/huddle xargs -P 2 -I '{}' sh -c ' \
  {} $(subst ','\'',$(2)) >{}.log 2>&1; code=$$?; \
  flock $(BUILD)/flags sh -c "echo {}; cat {}.log"; [ $$code = 0 ] || exit 255'
run-tests: $(BUILD)/huddle $(TESTS)
	$(call run_each,$(TESTS),--jobs 2 --short-filename $(T))
# SHORT=1 leaves the sanitizers what they are for: memory where bytes of others are read and where
# nets keep theirs, races where workers meet.
READ_BYTES := idx cifar10 dataset loader options safetensors checkpoint fuzz model
KEEP_BYTES := arena draft replacement net conv batchnorm optimizer topo
MEET := team allreduce easgd loader readme
only = $(if $(SHORT),$(filter $(addprefix $(BUILD)/tests/,$(1)),$(2)),$(2))
asan: ## the tests under AddressSanitizer and UndefinedBehaviorSanitizer; SHORT=1: some
	@$(MAKE) run-asan BUILD=$(BUILD)/asan CUDA=0 DEBUG=1 \
	  SAN='-fsanitize=address,undefined -fno-sanitize-recover=all'
SEED := $(or $(SEED),$(strip $(shell od -An -N2 -tu2 /dev/urandom)))
sim: ## every test on the simulated CUDA: 4 devices, random delays that SEED draws
	@echo 'simulated CUDA: make sim SEED=$(SEED)'
	@CUDASIM_DEVICES=4 CUDASIM_JITTER_US=50 CUDASIM_SEED=$(SEED) CUDASIM_LEAKS=2 \
	  $(MAKE) run-tests SIM=1 BUILD=$(BUILD)/sim
tsan: ## the tests under ThreadSanitizer, without Criterion's sandbox and OpenMP; SHORT=1: some
	@$(MAKE) run-plain BUILD=$(BUILD)/tsan CUDA=0 NVTX=0 OPENMP=0 DNNL=0 CBLAS=0 DEBUG=1 SAN=-fsanitize=thread \
	  TESTINC=-Itests/plain TESTLIB=
UNDER_ASAN := $(call only,$(READ_BYTES) $(KEEP_BYTES) $(MEET),$(TESTS))
run-asan: export LSAN_OPTIONS := suppressions=$(CURDIR)/tests/leaks.txt:print_suppressions=0
run-asan: $(if $(SHORT),,$(BUILD)/huddle) $(UNDER_ASAN)
	$(call run_each,$(UNDER_ASAN),--jobs 2 --short-filename)
# The black-box programs train whole nets with plain loops there: the others meet the same engine.
PLAIN := $(call only,$(MEET),$(filter-out %/huddle %/failing %/steady,$(TESTS)))
run-plain: $(PLAIN)
	$(call run_each,$(PLAIN))
SECONDS ?= 60
fuzz: ## every reader on bytes that libFuzzer makes up, SECONDS=60 each, two at a time; what breaks one is kept
	@$(MAKE) run-fuzz BUILD=$(BUILD)/fuzz CC=clang CUDA=0 OPENMP=0 DEBUG=1 \
	  SAN='-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all'
run-fuzz: $(FUZZ:%=$(BUILD)/%)
	@printf '%s\n' $(FUZZ) | xargs -P 2 -I '{}' sh -c 'mkdir -p $(BUILD)/corpus/{}; echo "fuzz {}"; \
	  $(BUILD)/{} -max_total_time=$(SECONDS) -timeout=10 -max_len=8192 -verbosity=0 -print_final_stats=1 \
	    -artifact_prefix=tests/fuzz/corpus/{}/ $(BUILD)/corpus/{} tests/fuzz/corpus/{} >$(BUILD)/{}.log 2>&1 || \
	    { cat $(BUILD)/{}.log; exit 255; }; grep -e number_of_exec -e new_units $(BUILD)/{}.log'
mutants: ## break the code line by line; every break must make a test fail
	sh tests/mutants.sh
perf-build: $(PERF)
perf: perf-build ## build and run the measuring programs; perf/README.md explains the columns
	@set -e; for p in $(PERF); do $$p; done
# clang's analyzer gives up on a function after a third of the steps that it would take by itself: half
# the time, and no finding lost that we know of.
SEARCH := -Xclang -analyzer-config -Xclang max-nodes=75000
lint: ## layout, include rule, list of mutants, clang-tidy, warnings of both compilers
	clang-format --dry-run -Werror $(EVERY_C)
	sh tests/floors.sh
	sh tests/mutants.sh --check
	$(MAKE) all CC=clang BUILD=$(BUILD)/clang SIM=1 WERROR=1 DEBUG=1
	@echo clang-tidy; printf '%s\n' $(SRC) | xargs -P 2 -n 4 sh -c 'clang-tidy --quiet "$$@" -- \
	  $(filter-out -f% -W% -march%,$(CFLAGS)) $(SEARCH) 2>/dev/null' clang-tidy
format: ## clang-format in place
	clang-format -i $(EVERY_C)
compile_commands.json: ## for clangd and other tools
	@{ sep='['; for f in $(SRC) $(wildcard tests/*.c perf/*.c); do printf '%s\n{"directory": "%s", "file": "%s", "command": "%s"}' \
	  "$$sep" "$(CURDIR)" "$$f" "$(CC) $(CFLAGS) -c $$f"; sep=','; done; printf '\n]\n'; } >$@

# ---- dependencies -------------------------------------------------------------------------------
BUILD_PACKAGES := $(if $(shell command -v $(CC)),,gcc libc6-dev) $(if $(has_hwloc)$(filter 0,$(HWLOC)),,libhwloc-dev) \
  $(if $(has_dnnl)$(has_cblas)$(filter 0,$(DNNL)),,libdnnl-dev) $(if $(has_zlib)$(filter 0,$(ZLIB)),,zlib1g-dev) \
  $(if $(has_lapack)$(filter 0,$(LAPACK)),,liblapacke-dev) \
  $(if $(has_inih),,libinih-dev) $(if $(has_cjson),,libcjson-dev)
TEST_PACKAGES := $(if $(has_criterion),,libcriterion-dev)
LINT_PACKAGES := $(foreach t,clang clang-format clang-tidy,$(if $(shell command -v $(t)),,$(t)))
MISSING = $(strip $(BUILD_PACKAGES) $(if $(filter test all,$(FOR)),$(TEST_PACKAGES)) $(if $(filter all,$(FOR)),$(LINT_PACKAGES)))
FOR ?= all
deps: ## install what is missing, on Debian and Ubuntu, as root or through sudo
ifneq ($(MISSING),)
	@echo "missing: $(MISSING)"; \
	if ! command -v apt-get >/dev/null; then \
	  echo "huddle: this is no Debian or Ubuntu: please install what these packages hold: $(MISSING)" >&2; exit 1; \
	elif [ "$$(id -u)" = 0 ]; then as=; elif sudo -n true 2>/dev/null || { command -v sudo >/dev/null && [ -t 0 ]; }; then as=sudo; \
	else echo "huddle: neither root nor sudo: please have this run: apt-get install $(MISSING)" >&2; exit 1; fi; \
	$$as apt-get update -qq && $$as env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(MISSING) >/dev/null
endif

config: ## what was found
	@printf '%-10s %s\n' compiler '$(CC), $(shell $(CC) --version | head -n 1)' \
	  CUDA '$(if $(SIM),simulated,$(if $(has_cuda),$(NVCC) for sm $(SM),no))' NCCL '$(if $(SIM),simulated,$(if $(has_nccl),yes,no))' \
	  CUDNN '$(if $(has_cudnn),$(if $(SIM),simulated,yes),no: GPUs convolve by columns and products)' \
	  HWLOC '$(if $(has_hwloc),yes,no: workers are not bound to cores)' \
	  OPENMP '$(if $(has_openmp),yes,no: one thread a worker)' \
	  GEMM '$(if $(has_dnnl),oneDNN,$(if $(has_cblas),CBLAS (OpenBLAS),plain loops: slow))' \
	  LAPACK '$(if $(has_lapack),yes,no: no huddle stability)' \
	  NVTX '$(if $(has_nvtx),yes,no: tools that draw time see no names)' \
	  ZLIB '$(if $(has_zlib),yes,no: .gz files cannot be read)' \
	  inih '$(if $(has_inih),yes,MISSING)' cJSON '$(if $(has_cjson),yes,MISSING)' \
	  Criterion '$(if $(has_criterion),yes,no: make test needs it)'
help: ## this
	@grep -hE '^[a-z_.]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 24
clean: ## remove build/
	rm -rf $(BUILD)
.PHONY: all demo install test run-tests run-plain run-asan asan sim tsan fuzz run-fuzz mutants perf perf-build lint format config help clean deps FORCE compile_commands.json
.SECONDARY:
.DELETE_ON_ERROR:
