# hrseg on the CPU: docker build -t hrseg . && docker run --rm -v "$PWD:/work" hrseg predict photo.jpg
FROM python:3.11-slim
WORKDIR /src
# torch first, without CUDA, in a layer that changes of hrseg do not rebuild
RUN pip install --no-cache-dir torch torchvision --index-url https://download.pytorch.org/whl/cpu
COPY . .
RUN pip install --no-cache-dir ".[openvino,serve,video]" && rm -rf /src/*
RUN useradd --create-home user
USER user
WORKDIR /work
ENTRYPOINT ["hrseg"]
CMD ["--help"]
