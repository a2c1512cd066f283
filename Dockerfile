# seqmel on CPUs:
#   docker build -t seqmel --build-arg VERSION=1.2.3 .
#   docker run --rm -v "$PWD:/data" -u "$(id -u):$(id -g)" seqmel train events.parquet -o model
FROM python:3.12-slim
# LightGBM needs OpenMP
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/*
RUN pip install --no-cache-dir torch --index-url https://download.pytorch.org/whl/cpu
COPY pyproject.toml hatch_build.py README.md LICENSE /src/
COPY seqmel /src/seqmel
# the version comes from the tag, and git is not copied
ARG VERSION=0.1.dev0
RUN SETUPTOOLS_SCM_PRETEND_VERSION=$VERSION pip install --no-cache-dir /src && rm -r /src
# whoever runs it may have no home
ENV HOME=/tmp
WORKDIR /data
ENTRYPOINT ["seqmel"]
