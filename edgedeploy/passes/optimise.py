import shutil
def optimise(source, folder):
    for f in source.parent.iterdir():
        if f.name.startswith("model.onnx"): shutil.copy(f, folder/f.name)
    class R:
        def to_json(self): return {}
    return R()
