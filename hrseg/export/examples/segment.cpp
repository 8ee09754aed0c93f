// Segment a PPM image with an exported ONNX file: writes class numbers as a PGM image.
// c++ -std=c++17 segment.cpp -I ONNXRUNTIME/include -L ONNXRUNTIME/lib -lonnxruntime -o segment
// ffmpeg -i photo.jpg photo.ppm && ./segment street.onnx photo.ppm mask.pgm
#include <onnxruntime_cxx_api.h>

#include <array>
#include <cstdint>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

int main(int count, char** words) {
  if (count != 4) return std::cerr << "usage: segment MODEL.onnx IMAGE.ppm MASK.pgm\n", 2;
  std::ifstream file(words[2], std::ios::binary);
  std::string kind;
  int64_t width = 0, height = 0, white = 0;
  file >> kind >> width >> height >> white;
  file.get();  // one white space before the pixels
  if (kind != "P6" || white != 255) return std::cerr << words[2] << " is no 8-bit P6 image\n", 2;
  std::vector<uint8_t> pixels(height * width * 3);
  file.read(reinterpret_cast<char*>(pixels.data()), pixels.size());

  Ort::Env env(ORT_LOGGING_LEVEL_WARNING, "segment");
  Ort::Session session(env, words[1], Ort::SessionOptions{});
  const std::array<int64_t, 4> shape{1, height, width, 3};
  auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  auto image = Ort::Value::CreateTensor<uint8_t>(memory, pixels.data(), pixels.size(), shape.data(), shape.size());
  const char *input = "image", *output = "labels";
  auto answers = session.Run(Ort::RunOptions{}, &input, &image, 1, &output, 1);
  const uint8_t* labels = answers[0].GetTensorData<uint8_t>();  // (1, height, width)

  std::ofstream mask(words[3], std::ios::binary);
  mask << "P5\n" << width << " " << height << "\n255\n";
  mask.write(reinterpret_cast<const char*>(labels), height * width);
  return mask ? 0 : 1;
}
