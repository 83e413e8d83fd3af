# docker build -t dartune .                                        for a CPU
# docker build -t dartune:cuda --build-arg DEVICE=cuda .           for a GPU: CUDA comes with torch, the driver from the host
# How to run it, and what the sandbox needs: docs/container.md.

# By tag, so that fixes of Debian and Python come with the next build. Pin a digest if two builds must agree.
FROM python:3.11-slim-bookworm

# git: DVC reads the repository through it. tini: Python as process 1 would ignore the signal of `docker stop`.
# Without versions, since Debian removes a version as soon as it is fixed.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends git tini \
    && rm -rf /var/lib/apt/lists/*

ARG DEVICE=cpu
ARG CPU_WHEELS=https://download.pytorch.org/whl/cpu
ENV PATH=/opt/venv/bin:$PATH

# Before the sources, so that editing those installs nothing again.
COPY requirements.lock /opt/
RUN --mount=type=cache,target=/root/.cache/pip \
    case "$DEVICE" in \
      cpu) export PIP_EXTRA_INDEX_URL="$CPU_WHEELS" ;; \
      cuda) ;; \
      *) echo "DEVICE is '$DEVICE'; cpu or cuda is expected" >&2; exit 1 ;; \
    esac \
    && python -m venv /opt/venv \
    && python -m pip install -r /opt/requirements.lock

# USER is for an id given by --user that no password file knows. A mounted working tree may belong to another user.
ARG UID=1000
ENV HOME=/home/dartune USER=dartune PYTHONDONTWRITEBYTECODE=1
RUN groupadd -g "$UID" dartune \
    && useradd -l -m -u "$UID" -g "$UID" dartune \
    && git config --system --add safe.directory /dartune

# Editable, so that a working tree mounted at /dartune is the one that runs.
WORKDIR /dartune
COPY --chown=dartune:dartune . .
RUN python -m pip install --no-cache-dir --no-build-isolation --no-deps -e . \
    && chown -R dartune:dartune /dartune

# A repository of its own, since .git is not copied in: `dvc metrics diff` compares with the state that the image was
# built from. The two folders exist so that a volume mounted there belongs to the user. No VOLUME: it would hide the
# cache of a working tree mounted at /dartune.
USER $UID
RUN git init -q \
    && git add -A \
    && git -c user.name=dartune -c user.email=dartune@localhost commit -qm "dartune, as built" \
    && mkdir -p .dvc/cache .work

LABEL org.opencontainers.image.title="dartune" \
      org.opencontainers.image.description="Fine-tune language models to design algorithms"

# No HEALTHCHECK: a run ends on its own, and a Prefect worker has a check of its own (--with-healthcheck).
ENTRYPOINT ["tini", "--"]
CMD ["python", "flows/finetune.py"]
