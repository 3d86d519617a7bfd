# ssh-rescue: what a fresh machine needs is cargo and root; `make drill` and `make test` fetch the rest.

CARGO ?= cargo
FUZZ_RUNS ?= 1000000
PAIRS ?= 10000000
RACES ?= 1000
SEED ?= 1000000

.PHONY: help setup build static test drill lint deny bench fuzz man manuals oracle races install deb rpm

help:
	@echo 'make drill   lock scratch hosts out in many ways and rescue them (root)'
	@echo 'make test    all tests, with the tools that they need (root)'
	@echo 'make build   the release binary, target/release/ssh-rescue'
	@echo 'make static  one file that runs on every distribution, target/static/ssh-rescue'
	@echo 'make lint    formatting, clippy, man pages, the fuzz targets'
	@echo 'make deny    advisories, licences, bans and sources of the dependencies'
	@echo 'make install what the packages hold, into DESTDIR or this system (root)'
	@echo 'make deb     the Debian package; make rpm: the other one; both in target/packages'
	@echo 'make manuals man pages and completions, from what the command line says'
	@echo 'make bench   benchmarks on scratch and booted hosts; writes docs/benchmarks.md (root)'
	@echo 'make oracle  the judge against the kernel, PAIRS of ruleset and source, from SEED on (root)'
	@echo 'make races   RACES repairs against another writer of rules (root)'
	@echo 'make fuzz    each fuzz target, FUZZ_RUNS inputs'

setup:
	./scripts/setup

build:
	$(CARGO) build --release --locked

static:
	./scripts/static

# The booted hosts run the file that is shipped.
test: setup static
	./scripts/hosts >/dev/null
	SSH_RESCUE_REQUIRE_ALL=1 SSH_RESCUE_PROGRAM=$(CURDIR)/target/static/ssh-rescue $(CARGO) test --locked --no-fail-fast

drill: setup build
	./target/release/ssh-rescue drill

lint: man
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets --locked -- -D warnings
	$(CARGO) check --manifest-path tests/fuzz/Cargo.toml --all-targets --locked

man:
	for page in packaging/man/*.[158]; do [ ! -e "$$page" ] || mandoc -T lint -W warning "$$page" || exit 1; done

install: static
	install -D -m 0755 target/static/ssh-rescue $(DESTDIR)/usr/bin/ssh-rescue
	[ -e $(DESTDIR)/etc/ssh-rescue/policy.toml ] || install -D -m 0644 packaging/policy.toml $(DESTDIR)/etc/ssh-rescue/policy.toml
	install -D -m 0644 -t $(DESTDIR)/usr/lib/systemd/system systemd/*.service systemd/*.socket
	install -D -m 0644 systemd/tmpfiles.d.conf $(DESTDIR)/usr/lib/tmpfiles.d/ssh-rescue.conf
	install -D -m 0644 systemd/sysusers.d.conf $(DESTDIR)/usr/lib/sysusers.d/ssh-rescue.conf
	install -D -m 0644 -t $(DESTDIR)/usr/share/man/man8 packaging/man/*.8
	install -D -m 0644 -t $(DESTDIR)/usr/share/man/man5 packaging/man/*.5
	install -D -m 0644 packaging/completions/ssh-rescue.bash $(DESTDIR)/usr/share/bash-completion/completions/ssh-rescue
	install -D -m 0644 packaging/completions/_ssh-rescue $(DESTDIR)/usr/share/zsh/site-functions/_ssh-rescue
	install -D -m 0644 packaging/completions/ssh-rescue.fish $(DESTDIR)/usr/share/fish/vendor_completions.d/ssh-rescue.fish
	@[ -n "$(DESTDIR)" ] || echo 'now: systemctl daemon-reload && systemctl enable --now ssh-rescue.socket ssh-rescue.service'

deb: static
	./scripts/cargo-tool cargo-deb
	rm -f target/packages/*.deb
	$(CARGO) deb --no-build --no-strip --output target/packages/
	if command -v lintian >/dev/null; then lintian --fail-on error,warning target/packages/*.deb; fi

rpm: static
	./scripts/cargo-tool cargo-generate-rpm
	rm -f target/packages/*.rpm
	$(CARGO) generate-rpm --output target/packages/
	if command -v rpmlint >/dev/null; then rpmlint -c packaging/rpm/rpmlint.toml target/packages/*.rpm; fi

manuals:
	mkdir -p packaging/man
	SSH_RESCUE_WRITE_MANUALS=1 $(CARGO) test --locked --test cli manuals

deny:
	./scripts/deny

# The agent that is measured is the file that is shipped.
bench: setup static
	./scripts/hosts >/dev/null
	$(CARGO) bench --locked --bench scale
	SSH_RESCUE_PROGRAM=$(CURDIR)/target/static/ssh-rescue $(CARGO) bench --locked --bench rescue

races: setup
	SSH_RESCUE_REQUIRE_ALL=1 SSH_RESCUE_RACES=$(RACES) $(CARGO) test --locked --test kernel -- races:: --nocapture

fuzz:
	./scripts/fuzz $(FUZZ_RUNS)

oracle: setup
	SSH_RESCUE_REQUIRE_ALL=1 SSH_RESCUE_PAIRS=$(PAIRS) SSH_RESCUE_SEED=$(SEED) $(CARGO) test --locked --test kernel -- \
		oracle::the_judge_agrees_with_the_kernel_on_generated_rulesets --exact --nocapture
