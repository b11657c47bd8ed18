# retentiond as a container image; docs/containers.md says how to use it. Built by docker, podman and buildah alike.
#
# BASE is a Debian image. Python 3.11 or later is used if it is there, otherwise Debian's own is installed. Both stages need
# the same base: the virtual environment refers to its Python.
ARG BASE=docker.io/library/python:3.11-slim-bookworm

FROM ${BASE} AS build
# The sets of optional packages, such as "chats notify": each is the name in requirements-NAME-hashed.lock.
ARG EXTRAS=""
RUN command -v pip3 >/dev/null \
  || { apt-get update && apt-get install -y --no-install-recommends python3-venv; }
WORKDIR /src
COPY requirements*hashed.lock ./
# Every package must have one of the hashes in the lock file, the build backend too.
RUN python3 -m venv /opt/retentiond \
  && for extra in "" ${EXTRAS}; do \
       /opt/retentiond/bin/pip install --no-cache-dir --no-compile --require-hashes \
         -r "requirements${extra:+-$extra}-hashed.lock" || exit 1; \
     done
COPY LICENSE README.md pyproject.toml ./
COPY retentiond retentiond
# Neither pip nor the build backend is needed afterwards. Modules are compiled here: the root file system may be read-only.
RUN cd /opt/retentiond \
  && bin/pip install --no-cache-dir --no-compile --no-deps --no-build-isolation --no-index /src \
  && bin/pip uninstall -q -y editables hatchling pathspec pluggy tomlkit trove-classifiers pip setuptools \
  && bin/python3 -m compileall -q -j0 --invalidation-mode unchecked-hash lib

FROM ${BASE}
RUN apt-get update \
  && apt-get install -y --no-install-recommends ca-certificates tini tzdata \
       $(command -v python3 >/dev/null || echo python3) \
  && rm -rf /var/lib/apt/lists/* /var/cache/apt/*
COPY --from=build /opt/retentiond /opt/retentiond

ENV PATH=/opt/retentiond/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    # `init` names the commands of the compose file in a container.
    container=oci \
    # Secrets of compose: `credential:NAME` in the configuration reads /run/secrets/NAME.
    CREDENTIALS_DIRECTORY=/run/secrets
# No user has this number. Beside dendrite `user:` must be the owner of its media.
USER 65532:65532
# tini passes signals on, and ends the processes whose parent is gone.
ENTRYPOINT ["tini", "--", "retentiond"]
CMD ["run"]
HEALTHCHECK --interval=2m --timeout=30s --start-period=2m --retries=2 CMD ["retentiond", "health"]
ARG VERSION="" REVISION=""
LABEL org.opencontainers.image.title="retentiond" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.description="Deletes old media of a dendrite Matrix server by policies, with a way back" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.documentation="docs/containers.md"
