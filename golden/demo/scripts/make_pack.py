"""Step 7: the small text files that tie the pack together.   python make_pack.py PACK_DIR"""

import os
import sys

# early termination of the multi-hypothesis start, per view: weights, biases, cut-offs of the log likelihood
EARLY = ((1.000, 1.010, 1.010), (0.000, 0.050, 0.050), (1.500, 1.500, 1.500))


def main(pack):
    m = f"{pack}/model"
    os.makedirs(f"{pack}/AU_predictors", exist_ok=True)
    with open(f"{m}/main_ceclm_general.txt", "w") as f:
        f.write("LandmarkDetector cen_general.txt\n")
        if os.path.exists(f"{m}/model_eye/main_clnf_synth_left.txt"):
            f.write("LandmarkDetector_part model_eye/main_clnf_synth_left.txt left_eye_28 ")
            f.write("36 8 37 10 38 12 39 14 40 16 41 18\n")
            f.write("LandmarkDetector_part model_eye/main_clnf_synth_right.txt right_eye_28 ")
            f.write("42 8 43 10 44 12 45 14 46 16 47 18\n")
        f.write("DetectionValidator detection_validation/validator_cnn_68.txt\n")
    with open(f"{m}/cen_general.txt", "w") as f:
        f.write("PDM pdms/In-the-wild_aligned_PDM_68.txt\nTriangulations tris_68.txt\n")
        for s in ("0.25", "0.35", "0.50", "1.00"):
            f.write(f"PatchesCEN patch_experts/cen_patches_{s}_of.dat\n")
        f.write("EarlyTermination early_term_cen_of.txt\n")
    with open(f"{m}/early_term_cen_of.txt", "w") as f:
        f.write(" ".join(f"{v:.3f}" for part in EARLY for v in part) + " \n")
    for kind, lst in (("dynamic", "AU_all_best.txt"), ("static", "AU_all_static.txt")):
        with open(f"{pack}/AU_predictors/main_{kind}_svms.txt", "w") as f:
            f.write(f"AUPredictor {lst}\nPDM In-the-wild_aligned_PDM_68.txt\nTriangulation tris_68_full.txt\n")
        p = f"{pack}/AU_predictors/{lst}"
        if not os.path.exists(p):
            open(p, "w").close()


if __name__ == "__main__":
    main(sys.argv[1])
