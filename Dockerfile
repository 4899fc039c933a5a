# Batcher in a container: `docker build -t batcher . && docker run --rm batcher` runs the demo (docs/how-to/docker.md).
FROM python:3.11-slim

WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY batcher batcher
RUN pip install --no-cache-dir --constraint constraints.txt '.[sandbox]'
RUN useradd --create-home batcher && mkdir /work && chown batcher /work

USER batcher
WORKDIR /work
COPY batcher.toml ./
COPY jobs jobs

ENTRYPOINT ["batcher"]
CMD ["demo"]
