# vidgan in a container.
#
#     docker build --tag vidgan .
#     docker run --rm --gpus all --shm-size 8g --volume "$PWD:/work" vidgan train data=my_clips/
#
# The usual torch of Linux brings CUDA along and also runs without a card. TORCH_INDEX names a place
# with another build of it, such as the much smaller one for CPUs; pytorch.org says where these are.
# EXTRAS installs extras of vidgan: --build-arg EXTRAS=export,tensorboard
ARG PYTHON_VERSION=3.12

FROM python:${PYTHON_VERSION}-slim-bookworm AS build
ARG TORCH_INDEX=""
ARG EXTRAS=""
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY configs configs
COPY src src
RUN python -m venv /opt/vidgan \
 && PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt \
    PIP_EXTRA_INDEX_URL="${TORCH_INDEX}" PIP_DISABLE_PIP_VERSION_CHECK=1 \
    /opt/vidgan/bin/python -m pip install --no-cache-dir ".${EXTRAS:+[${EXTRAS}]}"

FROM python:${PYTHON_VERSION}-slim-bookworm
COPY --from=build /opt/vidgan /opt/vidgan
# Files that are written to a mounted folder belong to the first user of most machines; another one:
# docker run --user "$(id -u):$(id -g)"
RUN useradd --create-home --uid 1000 vidgan \
 && install --directory --owner vidgan --mode 777 /work /cache
USER 1000
ENV PATH="/opt/vidgan/bin:${PATH}" VIDGAN_CACHE=/cache
WORKDIR /work
ENTRYPOINT ["vidgan"]
CMD ["--help"]
