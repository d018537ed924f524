// Measures a model that answers what the release says that it does, and prints the document.
MLModel.answer = { given in
    guard given.featureValue(for: "count")?.multiArrayValue?.shape == [1, 3] else {
        throw ModelError.runtime("count was not fed")
    }
    var sum = 0.0
    for number in given.featureValue(for: "image")!.multiArrayValue!.numbers { sum += number }
    return try MLDictionaryFeatureProvider(dictionary: [
        "class": MLFeatureValue(MLMultiArray([0.25, 0.75 + sum * 0], [1, 2])),
        "kept_next": MLFeatureValue(MLMultiArray([1, 2, 3], [1, 3])),
    ])
}
let report = try await MainModelBench.run()
print(report.fileName)
print(report.agrees)
print(String(decoding: try report.json(), as: UTF8.self))
