"""Names and places the demo's customers are made of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Culture:
    """`postal` holds # for a digit and @ for a letter; `street` holds {n} for the number."""

    country: str
    share: int
    places: tuple[tuple[str, str], ...]  # city, postal
    given: tuple[str, ...]
    family: tuple[str, ...]
    streets: tuple[str, ...]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


CULTURES = (
    Culture(
        "Portugal",
        9,
        (("Lisboa", "1###-###"), ("Porto", "4###-###"), ("Coimbra", "30##-###"), ("Braga", "47##-###")),
        _words("Ana João Maria Tiago Inês Rui Beatriz Miguel Catarina Duarte Leonor Nuno Sofia Afonso Marta Vasco"),
        _words("Silva Santos Ferreira Pereira Oliveira Costa Rodrigues Martins Sousa Fernandes Gomes Lopes Almeida"),
        ("Rua Augusta {n}", "Rua do Carmo {n}", "Avenida da Liberdade {n}", "Rua de Cedofeita {n}", "Largo da Sé {n}"),
    ),
    Culture(
        "Germany",
        14,
        (("Hamburg", "20###"), ("Berlin", "10###"), ("Köln", "50###"), ("Leipzig", "04###"), ("Freiburg", "79###")),
        _words("Jonas Lena Paul Mia Felix Hannah Lukas Emma Finn Clara Moritz Greta Niklas Frieda Tobias Anke Jürgen"),
        _words("Weber Müller Schmidt Fischer Becker Hoffmann Schäfer Koch Richter Klein Wolf Neumann Krüger"),
        ("Lindenstraße {n}", "Hauptstraße {n}", "Am Markt {n}", "Goethestraße {n}", "Mühlenweg {n}"),
    ),
    Culture(
        "United Kingdom",
        14,
        (("London", "SE# #@@"), ("Leeds", "LS# #@@"), ("Bristol", "BS# #@@"), ("Glasgow", "G## #@@")),
        _words("Oliver Amelia Harry Isla George Freya Jack Poppy Rosie Callum Imogen Ewan Niamh Rhys Elsie Alfie"),
        _words("Smith Jones Taylor Brown Davies Evans Wilson Clarke Hughes Campbell Murray Whitfield Okafor Patel"),
        ("{n} High Street", "{n} Church Lane", "{n} Station Road", "{n} Victoria Terrace", "Flat 2, {n} Mill Road"),
    ),
    Culture(
        "United States",
        20,
        (("Portland", "972##"), ("Austin", "787##"), ("Columbus", "432##"), ("Boston", "021##"), ("Denver", "802##")),
        _words("Emily Michael Ashley Joshua Madison Tyler Naomi Carlos Jasmine Ethan Grace Darnell Hailey Marcus Luz"),
        _words("Johnson Williams Garcia Davis Miller Martinez Anderson Thompson Nguyen Robinson Lewis Walker Ramirez"),
        ("{n} Maple Avenue", "{n} Oak Street", "{n} Sunset Drive", "{n} 5th Street", "{n} Lakeview Road"),
    ),
    Culture(
        "Spain",
        8,
        (("Madrid", "280##"), ("Sevilla", "410##"), ("Valencia", "460##"), ("Bilbao", "480##")),
        _words("Lucía Mateo Carmen Pablo Alba Diego Elena Javier Nerea Álvaro Rocío Iker Noelia Sergio Pilar Hugo"),
        _words("García Fernández González López Sánchez Pérez Martín Ruiz Jiménez Moreno Álvarez Navarro Ortega"),
        ("Calle Mayor {n}", "Calle de Alcalá {n}", "Avenida de la Constitución {n}", "Calle Real {n}"),
    ),
    Culture(
        "France",
        8,
        (("Lyon", "6900#"), ("Paris", "750##"), ("Nantes", "44###"), ("Lille", "59###")),
        _words("Camille Louis Chloé Hugo Manon Arthur Léa Jules Inès Gabriel Zoé Théo Élise Rayan Margaux Bastien"),
        _words("Martin Bernard Dubois Moreau Laurent Lefèvre Roux Fournier Girard Mercier Benali Chevalier Gauthier"),
        ("{n} rue de la République", "{n} avenue Jean Jaurès", "{n} rue Victor Hugo", "{n} place du Marché"),
    ),
    Culture(
        "India",
        9,
        (("Bengaluru", "5600##"), ("Pune", "4110##"), ("Chennai", "6000##"), ("Kolkata", "7000##")),
        _words("Priya Arjun Ananya Rohan Kavya Vikram Meera Aditya Lakshmi Sanjay Divya Farhan Ishita Karthik Zoya"),
        _words("Raman Sharma Iyer Reddy Gupta Nair Mukherjee Khan Desai Pillai Chatterjee Singh Rao Bose Menon"),
        ("{n} MG Road", "{n} Park Street", "{n}, 4th Cross, Indiranagar", "{n} Anna Salai", "{n} Lake View Layout"),
    ),
    Culture(
        "Japan",
        5,
        (("Tokyo", "1##-00##"), ("Osaka", "53#-00##"), ("Sapporo", "06#-00##")),
        _words("Yuki Haruto Sakura Ren Aoi Kenta Hina Daiki Mei Takumi Rin Sho Akiko Kaito Naoko Hiroshi"),
        _words("Tanaka Sato Suzuki Takahashi Watanabe Ito Yamamoto Nakamura Kobayashi Kato Yoshida Mori Hayashi"),
        ("{n}-3 Nishi", "{n}-11 Honcho", "{n}-7 Sakuragaoka", "{n}-2 Minami"),
    ),
    Culture(
        "Nigeria",
        4,
        (("Lagos", "10####"), ("Abuja", "90####"), ("Ibadan", "20####")),
        _words("Aisha Chinedu Ngozi Emeka Folake Tunde Amara Ibrahim Yetunde Obinna Zainab Segun Ifeoma Musa Kemi"),
        _words("Bello Okafor Adeyemi Eze Balogun Nwosu Abubakar Ogunleye Okonkwo Danjuma Afolabi Igwe Lawal"),
        ("{n} Allen Avenue", "{n} Broad Street", "{n} Awolowo Road", "{n} Ring Road"),
    ),
    Culture(
        "Brazil",
        5,
        (("São Paulo", "0####-###"), ("Recife", "50###-###"), ("Curitiba", "80###-###")),
        _words("Larissa Gustavo Juliana Thiago Fernanda Rafael Camila Bruno Letícia Caio Raquel Murilo Yasmin Igor"),
        _words("Souza Barbosa Carvalho Ribeiro Araújo Cardoso Teixeira Nascimento Moreira Freitas Batista Campos"),
        ("Rua das Flores {n}", "Avenida Paulista {n}", "Rua XV de Novembro {n}", "Travessa do Sol {n}"),
    ),
    Culture(
        "South Korea",
        4,
        (("Seoul", "0####"), ("Busan", "4####"), ("Daegu", "4####")),
        _words("Min-jun Seo-yeon Ji-ho Ha-eun Do-yun Su-bin Hyun-woo Yuna Jae-won Eun-ji Tae-yang Da-hye Jin-ah"),
        _words("Kim Lee Park Choi Jung Kang Cho Yoon Jang Lim Han Shin Seo Kwon Hwang Ahn Song"),
        ("{n} Teheran-ro", "{n} Jongno", "{n} Gwangalli-ro", "{n} Hagik-gil"),
    ),
)  # fmt: skip
