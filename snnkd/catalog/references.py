"""The papers behind the losses and the networks, as data and as BibTeX."""

# ruff: noqa: E501

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Reference:
    """One paper. `venue` is empty for a preprint."""

    key: str
    authors: tuple[str, ...]
    title: str
    year: int
    venue: str = ""
    journal: bool = False
    arxiv: str = ""
    doi: str = ""
    note: str = ""

    @property
    def short(self) -> str:
        """Where it is found, in a few words: `CVPR 2025, arXiv 2503.03144`."""
        published = f"{self.venue} {self.year}" if self.venue else "" if self.arxiv else str(self.year)
        return ", ".join(part for part in (published, f"arXiv {self.arxiv}" if self.arxiv else "") if part)

    @property
    def cited(self) -> str:
        """The authors' surnames up to two, else the first with `et al.`."""
        surnames = [author.split()[-1] for author in self.authors]
        return (
            " and ".join(surnames)
            if len(surnames) <= 2 and "others" not in surnames
            else f"{surnames[0]} et al."
        )

    def bibtex(self) -> str:
        kind, place = (
            ("article", "journal")
            if self.journal
            else ("inproceedings", "booktitle")
            if self.venue
            else ("misc", "")
        )
        fields = {
            "author": " and ".join(self.authors),
            "title": f"{{{self.title}}}",
            place: self.venue,
            "year": str(self.year),
            "eprint": self.arxiv,
            "archivePrefix": "arXiv" if self.arxiv else "",
            "doi": self.doi,
            "note": self.note,
        }
        lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if name and value]
        return "\n".join([f"@{kind}{{{self.key},", *lines, "}"])


REFERENCES = {
    reference.key: reference
    for reference in (
        Reference(
            key="hinton2015",
            authors=("Geoffrey Hinton", "Oriol Vinyals", "Jeff Dean"),
            title="Distilling the Knowledge in a Neural Network",
            year=2015,
            venue="NIPS Deep Learning Workshop",
            arxiv="1503.02531",
        ),
        Reference(
            key="zhang2025headtail",
            authors=("Tianqing Zhang", "Zixin Zhu", "Kairong Yu", "Hongwei Wang"),
            title="Head-Tail-Aware KL Divergence in Knowledge Distillation for Spiking Neural Networks",
            year=2025,
            arxiv="2504.20445",
        ),
        Reference(
            key="wu2025rethinking",
            authors=("Taiqiang Wu", "Chaofan Tao", "Jiahao Wang", "Runming Yang", "Zhe Zhao", "Ngai Wong"),
            title="Rethinking Kullback-Leibler Divergence in Knowledge Distillation for Large Language Models",
            year=2025,
            venue="COLING",
            arxiv="2404.02657",
        ),
        Reference(
            key="jung2025todi",
            authors=("Seongryong Jung", "Suwan Yoon", "DongGeon Kim", "Hwanhee Lee"),
            title="ToDi: Token-wise Distillation via Fine-Grained Divergence Control",
            year=2025,
            venue="EMNLP",
            arxiv="2505.16297",
        ),
        Reference(
            key="wang2025abkd",
            authors=(
                "Guanghui Wang",
                "Zhiyong Yang",
                "Zitai Wang",
                "Shi Wang",
                "Qianqian Xu",
                "Qingming Huang",
            ),
            title="ABKD: Pursuing a Proper Allocation of the Probability Mass in Knowledge Distillation via α-β-Divergence",
            year=2025,
            venue="ICML",
            arxiv="2505.04560",
        ),
        Reference(
            key="zhao2022decoupled",
            authors=("Borui Zhao", "Quan Cui", "Renjie Song", "Yiyu Qiu", "Jiajun Liang"),
            title="Decoupled Knowledge Distillation",
            year=2022,
            venue="CVPR",
            arxiv="2203.08679",
        ),
        Reference(
            key="huang2022dist",
            authors=("Tao Huang", "Shan You", "Fei Wang", "Chen Qian", "Chang Xu"),
            title="Knowledge Distillation from A Stronger Teacher",
            year=2022,
            venue="NeurIPS",
        ),
        Reference(
            key="zhou2021wsld",
            authors=(
                "Helong Zhou",
                "Liangchen Song",
                "Jiajie Chen",
                "Ye Zhou",
                "Guoli Wang",
                "Junsong Yuan",
                "Qian Zhang",
            ),
            title="Rethinking Soft Labels for Knowledge Distillation: A Bias-Variance Tradeoff Perspective",
            year=2021,
            venue="ICLR",
            arxiv="2102.00650",
        ),
        Reference(
            key="deng2022tet",
            authors=("Shikuang Deng", "Yuhang Li", "Shanghang Zhang", "Shi Gu"),
            title="Temporal Efficient Training of Spiking Neural Network via Gradient Re-weighting",
            year=2022,
            venue="ICLR",
            arxiv="2202.11946",
        ),
        Reference(
            key="yu2025tser",
            authors=(
                "Kairong Yu",
                "Chengting Yu",
                "Tianqing Zhang",
                "Xiaochen Zhao",
                "Shu Yang",
                "Hongwei Wang",
                "Qiang Zhang",
                "Qi Xu",
            ),
            title="Temporal Separation with Entropy Regularization for Knowledge Distillation in Spiking Neural Networks",
            year=2025,
            venue="CVPR",
            arxiv="2503.03144",
        ),
        Reference(
            key="yu2025twsnn",
            authors=(
                "Chengting Yu",
                "Xiaochen Zhao",
                "Lei Liu",
                "Shu Yang",
                "Gaoang Wang",
                "Erping Li",
                "Aili Wang",
            ),
            title="Efficient Logit-based Knowledge Distillation of Deep Spiking Neural Networks for Full-Range Timestep Deployment",
            year=2025,
            venue="ICML",
            arxiv="2501.15925",
        ),
        Reference(
            key="dong2024tks",
            authors=("Yiting Dong", "Dongcheng Zhao", "Yi Zeng"),
            title="Temporal Knowledge Sharing enable Spiking Neural Network Learning from Past and Future",
            year=2024,
            venue="IEEE Transactions on Artificial Intelligence",
            journal=True,
            arxiv="2304.06540",
        ),
        Reference(
            key="ding2025synergy",
            authors=("Yongqi Ding", "Lin Zuo", "Mengmeng Jing", "Kunshan Yang", "Pei He", "Tonglan Xie"),
            title="Synergy Between the Strong and the Weak: Spiking Neural Networks are Inherently Self-Distillers",
            year=2025,
            venue="NeurIPS",
            arxiv="2510.07924",
        ),
        Reference(
            key="sun2026seal",
            authors=(
                "Kai Sun",
                "Peibo Duan",
                "Yongsheng Huang",
                "Guowei Zhang",
                "Benjamin Smith",
                "Nanxu Gong",
                "Levin Kuhlmann",
            ),
            title="Not All Timesteps Matter Equally: Selective Alignment Knowledge Distillation for Spiking Neural Networks",
            year=2026,
            arxiv="2605.14252",
        ),
        Reference(
            key="sun2026meom",
            authors=("Kai Sun", "Peibo Duan", "Yongsheng Huang", "Nanxu Gong", "Levin Kuhlmann"),
            title="Many Eyes, One Mind: Temporal Multi-Perspective and Progressive Distillation for Spiking Neural Networks",
            year=2026,
            venue="ICLR",
        ),
        Reference(
            key="xu2023kdsnn",
            authors=("Qi Xu", "Yaxin Li", "Jiangrong Shen", "Jian K. Liu", "Huajin Tang", "Gang Pan"),
            title="Constructing Deep Spiking Neural Networks from Artificial Neural Networks with Knowledge Distillation",
            year=2023,
            venue="CVPR",
            arxiv="2304.05627",
        ),
        Reference(
            key="hong2023lasnn",
            authors=("Di Hong", "Jiangrong Shen", "Yu Qi", "Yueming Wang"),
            title="LaSNN: Layer-wise ANN-to-SNN Distillation for Effective and Efficient Training in Deep Spiking Neural Networks",
            year=2023,
            arxiv="2304.09101",
        ),
        Reference(
            key="xu2024bkdsnn",
            authors=("Zekai Xu", "Kang You", "Qinghai Guo", "Xiang Wang", "Zhezhi He"),
            title="BKDSNN: Enhancing the Performance of Learning-based Spiking Neural Networks Training with Blurred Knowledge Distillation",
            year=2024,
            venue="ECCV",
        ),
        Reference(
            key="liu2026ckdsnn",
            authors=("Xu Liu", "Na Xia", "Jinxing Zhou", "Jingyuan Xu", "Dan Guo"),
            title="A Closer Look at Knowledge Distillation in Spiking Neural Network Training",
            year=2026,
            venue="AAAI",
            arxiv="2511.06902",
        ),
        Reference(
            key="guo2024enof",
            authors=(
                "Yufei Guo",
                "Weihang Peng",
                "Xiaode Liu",
                "Yuanpei Chen",
                "Yuhan Zhang",
                "Xin Tong",
                "Zhou Jie",
                "Zhe Ma",
            ),
            title="EnOF-SNN: Training Accurate Spiking Neural Networks via Enhancing the Output Feature",
            year=2024,
            venue="NeurIPS",
        ),
        Reference(
            key="qiu2024sakd",
            authors=("Haonan Qiu", "others"),
            title="Self-architectural knowledge distillation for spiking neural networks",
            year=2024,
            venue="Neural Networks",
            journal=True,
            note="author list not verified",
        ),
        Reference(
            key="cai2026mar",
            authors=(
                "Junhong Cai",
                "Guiqin Wang",
                "Kejie Zhao",
                "Jianxiong Tang",
                "Xiang Wang",
                "Luziwei Leng",
                "Ran Cheng",
                "Yuxin Ma",
                "Qinghai Guo",
            ),
            title="MAR: Efficient Large Language Models via Module-aware Architecture Refinement",
            year=2026,
            arxiv="2601.21503",
            note="authors from a digest",
        ),
        Reference(
            key="sun2024logit",
            authors=("Shangquan Sun", "Wenqi Ren", "Jingzhi Li", "Rui Wang", "Xiaochun Cao"),
            title="Logit Standardization in Knowledge Distillation",
            year=2024,
            venue="CVPR",
            arxiv="2403.01427",
        ),
        Reference(
            key="lee2021energy",
            authors=("Dongjin Lee", "Seongsik Park", "Jongwan Kim", "Wuhyeong Doh", "Sungroh Yoon"),
            title="Energy-efficient Knowledge Distillation for Spiking Neural Networks",
            year=2021,
            arxiv="2106.07172",
            note="withdrawn by its first author",
        ),
        Reference(
            key="cichocki2011alphabeta",
            authors=("Andrzej Cichocki", "Sergio Cruces", "Shun-ichi Amari"),
            title="Generalized Alpha-Beta Divergences and Their Application to Robust Nonnegative Matrix Factorization",
            year=2011,
            venue="Entropy",
            journal=True,
            doi="10.3390/e13010134",
        ),
        Reference(
            key="jeffreys1946",
            authors=("Harold Jeffreys",),
            title="An invariant form for the prior probability in estimation problems",
            year=1946,
            venue="Proceedings of the Royal Society of London A",
            journal=True,
        ),
        Reference(
            key="lin1991",
            authors=("Jianhua Lin",),
            title="Divergence measures based on the Shannon entropy",
            year=1991,
            venue="IEEE Transactions on Information Theory",
            journal=True,
            doi="10.1109/18.61115",
        ),
        Reference(
            key="zagoruyko2017attention",
            authors=("Sergey Zagoruyko", "Nikos Komodakis"),
            title="Paying More Attention to Attention: Improving the Performance of Convolutional Neural Networks via Attention Transfer",
            year=2017,
            venue="ICLR",
            arxiv="1612.03928",
        ),
        Reference(
            key="pereyra2017confidence",
            authors=("Gabriel Pereyra", "George Tucker", "Jan Chorowski", "Łukasz Kaiser", "Geoffrey Hinton"),
            title="Regularizing Neural Networks by Penalizing Confident Output Distributions",
            year=2017,
            venue="ICLR Workshop",
            arxiv="1701.06548",
        ),
        Reference(
            key="he2016resnet",
            authors=("Kaiming He", "Xiangyu Zhang", "Shaoqing Ren", "Jian Sun"),
            title="Deep Residual Learning for Image Recognition",
            year=2016,
            venue="CVPR",
            arxiv="1512.03385",
        ),
        Reference(
            key="zheng2021tdbn",
            authors=("Hanle Zheng", "Yujie Wu", "Lei Deng", "Yifan Hu", "Guoqi Li"),
            title="Going Deeper With Directly-Trained Larger Spiking Neural Networks",
            year=2021,
            venue="AAAI",
            arxiv="2011.05280",
        ),
        Reference(
            key="guo2022imloss",
            authors=(
                "Yufei Guo",
                "Yuanpei Chen",
                "Liwen Zhang",
                "Xiaode Liu",
                "Yinglei Wang",
                "Xuhui Huang",
                "Zhe Ma",
            ),
            title="IM-Loss: Information Maximization Loss for Spiking Neural Networks",
            year=2022,
            venue="NeurIPS",
        ),
        Reference(
            key="fang2021sew",
            authors=(
                "Wei Fang",
                "Zhaofei Yu",
                "Yanqi Chen",
                "Tiejun Huang",
                "Timothée Masquelier",
                "Yonghong Tian",
            ),
            title="Deep Residual Learning in Spiking Neural Networks",
            year=2021,
            venue="NeurIPS",
            arxiv="2102.04159",
        ),
        Reference(
            key="hu2021msresnet",
            authors=("Yifan Hu", "Lei Deng", "Yujie Wu", "Man Yao", "Guoqi Li"),
            title="Advancing Spiking Neural Networks towards Deep Residual Learning",
            year=2021,
            arxiv="2112.08954",
        ),
        Reference(
            key="simonyan2015vgg",
            authors=("Karen Simonyan", "Andrew Zisserman"),
            title="Very Deep Convolutional Networks for Large-Scale Image Recognition",
            year=2015,
            venue="ICLR",
            arxiv="1409.1556",
        ),
        Reference(
            key="huang2024clif",
            authors=(
                "Yulong Huang",
                "Xiaopeng Lin",
                "Hongwei Ren",
                "Haotian Fu",
                "Yue Zhou",
                "Zunchang Liu",
                "Biao Pan",
                "Bojun Cheng",
            ),
            title="CLIF: Complementary Leaky Integrate-and-Fire Neuron for Spiking Neural Networks",
            year=2024,
            venue="ICML",
            arxiv="2402.04663",
        ),
        Reference(
            key="zhou2023spikformer",
            authors=(
                "Zhaokun Zhou",
                "Yuesheng Zhu",
                "Chao He",
                "Yaowei Wang",
                "Shuicheng Yan",
                "Yonghong Tian",
                "Li Yuan",
            ),
            title="Spikformer: When Spiking Neural Network Meets Transformer",
            year=2023,
            venue="ICLR",
            arxiv="2209.15425",
        ),
        Reference(
            key="zhou2024qkformer",
            authors=(
                "Chenlin Zhou",
                "Han Zhang",
                "Zhaokun Zhou",
                "Liutao Yu",
                "Liwei Huang",
                "Xiaopeng Fan",
                "Li Yuan",
                "Zhengyu Ma",
                "Huihui Zhou",
                "Yonghong Tian",
            ),
            title="QKFormer: Hierarchical Spiking Transformer using Q-K Attention",
            year=2024,
            venue="NeurIPS",
            arxiv="2403.16552",
        ),
    )
}
