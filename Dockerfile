# The image: two static binaries and nothing else. `make image` builds it, docs/image.md tells more.
#
# Whatever has a Rust toolchain, a C compiler and a static C library can build: glibc on Debian, musl on Alpine (ADR 0033).
ARG BUILDER=docker.io/library/rust:1-slim-bookworm

FROM ${BUILDER} AS build
WORKDIR /dragoman-source
# .dockerignore lets through what a build needs: a change elsewhere builds nothing again.
COPY . .
# Crates are kept between builds, by an engine that can. What was compiled is not: cargo tells by dates whether it is
# out of date, and those of another checkout mean nothing.
ENV CARGO_HOME=/cargo
RUN --mount=type=cache,target=/cargo/registry scripts/build-static /

FROM scratch
COPY --from=build /dragoman /dragoman-init /
ARG VERSION=unknown
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="dragoman" \
      org.opencontainers.image.description="A transparent outbound proxy beside one application" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.base.name="scratch"
USER 1337:1337
ENTRYPOINT ["/dragoman"]
